# As rnnpose_hg_coco.py, on an AE network without intermediate channels, such as MMPose 0.x's hourglass_ae_coco_512x512
# after tools/convert_checkpoint.py: the decoder reads heatmaps and tags of all four stacks, which is c = 136 again.
_base_ = ['rnnpose_hg_coco.py']

model = dict(
    backbone=dict(out_channels=34, init_cfg=dict(checkpoint='work_dirs/hourglass_ae_coco_512x512.pth')),
    neck=dict(in_channels=[34] * 4, channels=(0, 34)),
)
