# The recurrent decoder on photographs, on the frozen features and heads of MoveNet MultiPose.
_base_ = ['_base_/runtime.py', '_base_/photographs.py']

codec = dict(
    type='InstanceHeatmap',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=1.5,
    refinement='parabola',
)

model = dict(
    type='FreezableBottomupPoseEstimator',
    freeze_backbone=True,
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(_base_.backbone, levels=('features', 'heatmaps', 'centre', 'tags', 'position', 'peaks')),
    neck=dict(type='StackedFeatures', in_channels=[24, 17, 1, 34, 2, 51], in_index=[0, 1, 2, 3, 4], beside=5),
    head=dict(
        type='RecurrentPoseHead',
        in_channels=78,
        num_keypoints=17,
        hidden_channels=(32, 64, 64, 24),
        context='read',
        layer_strides=(1, 4, 4, 1),
        claimed_maps=True,
        second_lstm=dict(hidden_channels=(32, 24), others=True),
        max_train_instances=8,
        max_surplus=3,
        chunk_size=8,  # T, people per backpropagation
        # Equation 2 as printed, whose sum leaves equation 3 little weight: with 1 it found three people for one.
        # Unlabelled joints are ignored by the heatmap loss.
        heatmap_loss=dict(type='HungarianHeatmapLoss', unlabelled='ignore'),
        stop_loss=dict(type='StopLoss', loss_weight=10),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=True, multiscale_test=False, ae_refinement=False, snap_to_peaks=True, score_threshold=0.2),
)

# The last of the stages: whole images, on what rnnpose_movenet_photo_crops.py learned.
train_dataloader = dict(
    dataset=dict(
        sample_ratio_factor=[5, 0.3, 0.4],
        pipeline=[
            *_base_.augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=_base_.heatmap_size),
            dict(type='PackPoseInputs'),
        ],
    )
)

train_cfg = dict(max_epochs=1)
optim_wrapper = dict(type='Bfloat16OptimWrapper', optimizer=dict(type='Adam', lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=1, eta_min=1e-5, convert_to_iter_based=True),
]
# Without these the log would show the last iteration's parts beside the mean of their sum.
log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50) for part in ('heatmap', 'second_lstm_heatmap', 'stop')
    ]
)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=50),
    chunked_backprop=dict(type='ChunkedBackpropHook', mode='accumulate'),
)
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.02, interval=2),
]
load_from = 'work_dirs/rnnpose_movenet_photo_crops/epoch_1.pth'
