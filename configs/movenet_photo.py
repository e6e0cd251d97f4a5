# MoveNet MultiPose with its own decoding, for comparison: no training.
_base_ = ['_base_/runtime.py', '_base_/photographs.py']

model = dict(
    type='FreezableBottomupPoseEstimator',
    freeze_backbone=True,
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(_base_.backbone, levels=('centre', 'heatmaps', 'regression', 'offsets', 'box_offset', 'box_scale')),
    head=dict(type='MoveNetHead'),
    test_cfg=dict(),
)
train_dataloader = train_cfg = None
