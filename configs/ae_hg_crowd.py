# Associative Embedding on the synthetic crowd: the features the recurrent decoder is trained on.
_base_ = ['_base_/runtime.py', '_base_/crowd.py']

codec = dict(
    type='TrainableAssociativeEmbedding',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=1.0,
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
        keypoint_loss=dict(type='KeypointMSELoss', loss_weight=10.0),
        tag_loss=dict(type='AssociativeEmbeddingLoss', loss_weight=0.01),
        decoder=dict(codec, heatmap_size=_base_.input_size),
    ),
    test_cfg=dict(flip_test=False, restore_heatmap_size=True),
)

train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            *_base_.augmentation,
            dict(type='GenerateTarget', encoder=codec),
            dict(type='InstanceHeatmapMask', heatmap_size=_base_.heatmap_size),
            dict(type='PackPoseInputs'),
        ]
    ),
)

train_cfg = dict(max_epochs=_base_.ae_epochs, val_interval=4)
optim_wrapper = dict(optimizer=dict(type='Adam', lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type='CosineAnnealingLR', by_epoch=True, begin=0, end=_base_.ae_epochs, eta_min=1e-5, convert_to_iter_based=True
    ),
]
