# Backbone and decoder trained together on CrowdBench: from AE's weights on, with AE's losses kept.
_base_ = ['rnnpose_others_crowdbench.py']

ae_codec = dict(
    type='TrainableAssociativeEmbedding', input_size=_base_.input_size, heatmap_size=_base_.heatmap_size, sigma=1.0
)
model = dict(
    type='JointPoseEstimator',
    freeze_backbone=False,
    # AE's weights of ae_hg_crowd.py times 100, as the decoder's losses are sums over people.
    ae_loss_weight=100,
    ae_head=dict(
        type='StackedAEHead',
        num_keypoints=17,
        keypoint_loss=dict(type='KeypointMSELoss', loss_weight=10.0),
        tag_loss=dict(type='AssociativeEmbeddingLoss', loss_weight=0.01),
    ),
)
load, fit, flip, target, mask, pack = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[load, fit, flip, dict(type='GenerateTarget', encoder=ae_codec), target, mask, pack])
)
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0.25)}))
