# Associative Embedding on CrowdBench (tools/make_crowd.py --crowdbench): 128 px images, 32 x 32 cells, crowds of 12.
_base_ = ['ae_hg_crowd.py']

data_root = 'data/crowdbench/'
input_size = (128, 128)
heatmap_size = (32, 32)
codec = dict(_base_.codec, input_size=input_size, heatmap_size=heatmap_size)
model = dict(head=dict(decoder=dict(input_size=input_size, heatmap_size=input_size)))

load, fit, flip = _base_.augmentation
augmentation = [load, dict(fit, input_size=input_size), flip]
load, fit, pack = _base_.test_pipeline
test_pipeline = [load, dict(fit, input_size=input_size), pack]
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        pipeline=[
            *augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=heatmap_size),
            dict(type='PackPoseInputs'),
        ],
    )
)
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(data_root=data_root, pipeline=test_pipeline))

ae_epochs = 24
train_cfg = dict(max_epochs=ae_epochs, val_interval=4)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=ae_epochs)]
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.004, interval=4),
]
