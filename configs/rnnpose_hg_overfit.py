# Can it learn at all? A few images of your own data, learned by heart (tools/overfit.py fills in which).
_base_ = ['_base_/runtime.py', '_base_/crowd.py']

input_size, heatmap_size = (128, 128), (32, 32)
codec = dict(type='InstanceHeatmap', input_size=input_size, heatmap_size=heatmap_size, sigma=1.0, refinement='parabola')

model = dict(
    type='FreezableBottomupPoseEstimator',
    freeze_backbone=False,
    data_preprocessor=_base_.data_preprocessor,
    backbone=_base_.backbone,
    neck=dict(type='StackedFeatures', in_channels=[68, 68]),
    head=dict(
        type='RecurrentPoseHead',
        in_channels=136,
        num_keypoints=17,
        hidden_channels=(32, 24, 24),
        max_surplus=2,
        chunk_size=8,
        heatmap_loss=dict(type='HungarianHeatmapLoss', reduction='keypoint_mean'),
        decoder=codec,
    ),
)

resize = dict(  # no augmentation: the image as at inference
    type='BottomupRandomAffine', input_size=input_size, shift_prob=0, scale_prob=0, rotate_prob=0, scale_type='long'
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        pipeline=[
            dict(type='LoadPoseImage'),
            resize,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=heatmap_size),
            dict(type='PackPoseInputs'),
        ]
    ),
)
test_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupResize', input_size=input_size),
    _base_.test_pipeline[-1],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

train_cfg = dict(_delete_=True, by_epoch=False, max_iters=800, val_interval=800)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-3), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=800, eta_min=1e-5),
]
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=200),
    chunked_backprop=dict(type='ChunkedBackpropHook', mode='accumulate'),
)
log_processor = dict(by_epoch=False)
