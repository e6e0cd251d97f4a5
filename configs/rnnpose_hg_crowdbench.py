# The paper's decoder and losses on CrowdBench, on the frozen features of ae_hg_crowdbench.py.
_base_ = ['rnnpose_hg_crowd.py']

data_root = 'data/crowdbench/'
input_size = (128, 128)
heatmap_size = (32, 32)
codec = dict(_base_.codec, input_size=input_size, heatmap_size=heatmap_size)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint='model_zoo/ae_hg_crowdbench.pth')),
    neck=dict(in_index=[-1]),
    head=dict(
        in_channels=68,
        heatmap_loss=dict(reduction='sum'),  # equation 2 as printed; with equation 3 at its weight of 1
        decoder=codec,
    ),
)

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

train_cfg = dict(max_epochs=1)
optim_wrapper = dict(clip_grad=None)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=1)]
# At most 1 person of an image, then 2, 4, 8 and, for the last 600 of the 2,000 iterations, all. The weights are
# averaged over fewer iterations than that, as those of shorter sequences do not know when to stop.
*other_hooks, average = _base_.custom_hooks
custom_hooks = [
    *other_hooks,
    dict(average, momentum=0.03),
    dict(type='GrowSequenceHook', start=1, every=350, doubles=True),
]
