# As rnnpose_hg_coco.py, on ResNet-50 with an FPN, trained along from MMPose's ImageNet weights.
# The schedule is the paper's for a decoder alone and has not been tuned for this.
_base_ = ['rnnpose_hg_coco.py']

model = dict(
    freeze_backbone=False,
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        out_indices=(0, 1, 2, 3),
        norm_eval=True,  # with one image in a batch the batch norms keep ImageNet's statistics
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50'),
    ),
    # The decoder reads the finest map, stride 4. 136 channels are the paper's c, which halved three times is K = 17.
    neck=dict(_delete_=True, type='FPN', in_channels=[256, 512, 1024, 2048], out_channels=136, num_outs=4),
)
find_unused_parameters = True  # for several GPUs: the FPN also computes three coarser maps that are not used
