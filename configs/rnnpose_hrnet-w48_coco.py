# As rnnpose_hrnet-w32_coco.py, with the wider HRNet-W48, trained along from MMPose's ImageNet weights.
# The schedule is the paper's for a decoder alone and has not been tuned for this.
_base_ = ['rnnpose_hrnet-w32_coco.py']

model = dict(
    freeze_backbone=False,
    backbone=dict(
        norm_eval=True,  # with one image in a batch the batch norms keep ImageNet's statistics
        extra=dict(
            stage2=dict(num_channels=(48, 96)),
            stage3=dict(num_channels=(48, 96, 192)),
            stage4=dict(num_channels=(48, 96, 192, 384)),
        ),
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w48-8ef0771d.pth',
        ),
    ),
    neck=dict(in_channels=[48]),
    head=dict(in_channels=48),
)
