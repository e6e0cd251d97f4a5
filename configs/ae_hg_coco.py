# Associative Embedding on COCO: the base network of rnnpose_hg_coco.py. Schedule of MMPose's AE configs.
_base_ = ['_base_/runtime.py', '_base_/coco.py']

codec = dict(
    type='TrainableAssociativeEmbedding',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=2,
    decode_keypoint_order=[0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16],
    decode_max_instances=30,
    # MMPose draws a joint at cell round(x / 4), and resized to the input size the middle of cell i is 4 i + 1.5.
    decode_center_shift=-1.5,
)

model = dict(
    type='FreezableBottomupPoseEstimator',
    data_preprocessor=_base_.data_preprocessor,
    backbone=_base_.backbone,
    head=dict(
        type='StackedAEHead',
        num_keypoints=17,
        tag_loss=dict(type='AssociativeEmbeddingLoss', loss_weight=0.001),
        decoder=dict(codec, heatmap_size=_base_.input_size),
    ),
    test_cfg=dict(flip_test=False, restore_heatmap_size=True),
)

train_dataloader = dict(
    batch_size=24,
    dataset=dict(
        pipeline=[
            *_base_.augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=_base_.heatmap_size),
            dict(type='PackPoseInputs'),
        ]
    ),
)

train_cfg = dict(max_epochs=300, val_interval=10)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=1.5e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=300, milestones=[200, 260], gamma=0.1),
]
auto_scale_lr = dict(base_batch_size=192)
