# As rnnpose_hg_coco.py, on CrowdPose by its protocol (trainval to test) and the frozen features of ae_hg_crowdpose.py.
# Never trained here.
_base_ = ['rnnpose_hg_coco.py', '_base_/crowdpose.py']

model = dict(
    backbone=dict(out_channels=56, init_cfg=dict(checkpoint='work_dirs/ae_hg_crowdpose/epoch_300.pth')),
    neck=dict(in_channels=[56] * 4, channels=(28, 56), ae_channels=28),
    head=dict(in_channels=112, num_keypoints=14),
)

train_dataloader = dict(dataset=_base_.crowdpose_trainval)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=_base_.crowdpose_test)
test_evaluator = _base_.crowdpose_evaluator
