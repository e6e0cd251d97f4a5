# The recurrent decoder on the synthetic crowd, on the frozen features of ae_hg_crowd.py.
_base_ = ['_base_/runtime.py', '_base_/crowd.py']

codec = dict(
    type='InstanceHeatmap',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=1.0,
    refinement='parabola',
)

model = dict(
    type='FreezableBottomupPoseEstimator',
    freeze_backbone=True,
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        _base_.backbone,
        init_cfg=dict(
            type='Pretrained', checkpoint=f'work_dirs/ae_hg_crowd/epoch_{_base_.ae_epochs}.pth', prefix='backbone.'
        ),
    ),
    # All 68 channels of both stacks: with 2 stacks the paper's 34 intermediate ones would be half of its c = 136.
    neck=dict(type='StackedFeatures', in_channels=[68, 68]),
    head=dict(
        type='RecurrentPoseHead',
        in_channels=136,
        num_keypoints=17,
        hidden_channels=(32, 24, 24),
        max_surplus=3,
        chunk_size=8,  # T, people per backpropagation
        heatmap_loss=dict(type='HungarianHeatmapLoss', reduction='keypoint_mean'),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=False, multiscale_test=False, ae_refinement=False),
)

train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        pipeline=[
            *_base_.augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=_base_.heatmap_size),
            dict(type='PackPoseInputs'),
        ]
    ),
)

train_cfg = dict(max_epochs=3, val_interval=1)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-3), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=3, eta_min=1e-5, convert_to_iter_based=True),
]
# Without these the log would show the last iteration's parts beside the mean of their sum.
log_processor = dict(
    custom_cfg=[dict(data_src=part, method_name='mean', window_size=50) for part in ('heatmap', 'stop')]
)
default_hooks = dict(chunked_backprop=dict(type='ChunkedBackpropHook', mode='accumulate'))
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.008, interval=4),
]
