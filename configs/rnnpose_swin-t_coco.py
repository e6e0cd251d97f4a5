# As rnnpose_res50_coco.py, on Swin-T, MMPose's but for the way its ImageNet weights are loaded.
_base_ = ['rnnpose_res50_coco.py']

model = dict(
    backbone=dict(
        _delete_=True,
        type='LoadableSwinTransformer',
        embed_dims=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
        convert_weights=True,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://github.com/SwinTransformer/storage/releases/download/v1.0.0/'
            'swin_tiny_patch4_window7_224.pth',
        ),
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
