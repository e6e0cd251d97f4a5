# As rnnpose_hg_coco.py, on the frozen HRNet-W32 of ae_hrnet-w32_coco.py: AE first, since that is how the paper does it.
# AE's heatmaps and tags are computed from its 32 channels. Halved they would be fewer than the 17 maps that the
# last layer draws, so the hidden sizes stay the paper's, (68, 34, 17).
_base_ = ['rnnpose_hg_coco.py', '_base_/hrnet_w32.py']

model = dict(
    backbone=dict(
        _base_.hrnet_w32,
        _delete_=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/ae_hrnet-w32_coco/epoch_300.pth', prefix='backbone.'),
    ),
    neck=dict(_delete_=True, type='StackedFeatures', in_channels=[32]),
    head=dict(in_channels=32),
)
