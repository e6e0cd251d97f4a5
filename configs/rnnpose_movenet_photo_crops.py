# The first stage of rnnpose_movenet_photo.py: crops of 192 px at the scale of 256, which take half the time.
_base_ = ['rnnpose_movenet_photo.py']

input_size, heatmap_size = (192, 192), (48, 48)
codec = dict(_base_.codec, input_size=input_size, heatmap_size=heatmap_size)
model = dict(head=dict(decoder=codec))

affine, flip = _base_.augmentation
train_dataloader = dict(
    dataset=dict(
        sample_ratio_factor=[6, 0.8, 0.6],
        pipeline=[
            dict(affine, input_size=input_size, scale_factor=(0.45, 0.95), shift_factor=0.25),
            flip,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=heatmap_size),
            dict(type='PackPoseInputs'),
        ],
    )
)
load, fit, pack = _base_.test_pipeline
test_pipeline = [load, dict(fit, input_size=input_size), pack]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100)]
*other_hooks, average = _base_.custom_hooks
custom_hooks = [
    *other_hooks,
    dict(average, momentum=0.01),
    dict(type='GrowSequenceHook', start=2, every=120, doubles=True),
]
# The drawn crowd's decoder, as far as it fits: projects/photographs/warm_start.py.
load_from = 'data/photographs/warm.pth'
