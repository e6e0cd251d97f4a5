# The paper's recipe (section 3.3) on COCO: the recurrent decoder on the frozen features of ae_hg_coco.py.
_base_ = ['_base_/runtime.py', '_base_/coco.py']

codec = dict(
    type='InstanceHeatmap',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=2,
    keypoint_threshold=0.015,  # tau
)

model = dict(
    type='FreezableBottomupPoseEstimator',
    freeze_backbone=True,  # the one switch: False trains it too
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        _base_.backbone,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/ae_hg_coco/epoch_300.pth', prefix='backbone.'),
    ),
    neck=dict(type='StackedFeatures', in_channels=[68] * 4, channels=(34, 68), ae_channels=34),
    head=dict(
        type='RecurrentPoseHead',
        in_channels=136,
        num_keypoints=17,
        hidden_channels=(68, 34, 17),
        feedback_passes=2,
        stop_threshold=0.2689414213699951,  # omega = sigmoid(-1)
        chunk_size=8,  # T, people per backpropagation
        heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='confident', overcount='first'),  # (a, a')
        stop_loss=dict(type='StopLoss'),
        decoder=codec,
    ),
    test_cfg=dict(flip_test=False, multiscale_test=False, ae_refinement=False),
)

train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        pipeline=[
            *_base_.augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=_base_.heatmap_size),
            dict(type='PackPoseInputs'),
        ]
    ),
)

train_cfg = dict(max_epochs=9, val_interval=1)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1e-4))
param_scheduler = [dict(type='MultiStepLR', by_epoch=True, begin=0, end=9, milestones=[4], gamma=0.1)]
auto_scale_lr = dict(base_batch_size=1)
# Without these the log would show the last iteration's parts beside the mean of their sum.
log_processor = dict(
    custom_cfg=[dict(data_src=part, method_name='mean', window_size=50) for part in ('heatmap', 'stop')]
)
default_hooks = dict(chunked_backprop=dict(type='ChunkedBackpropHook', mode='accumulate'))
