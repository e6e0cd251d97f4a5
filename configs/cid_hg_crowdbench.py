# CID (Wang and Zhang, CVPR 2022) on CrowdBench: MMPose's head and losses on the network of ae_hg_crowdbench.py, as the
# rows of docs/crowdbench.md start with it. From random weights it needs more than twice the iterations.
_base_ = ['ae_hg_crowdbench.py']

cid_codec = dict(type='CenteredDecoupledHeatmap', input_size=_base_.input_size, heatmap_size=_base_.heatmap_size)
model = dict(
    backbone=dict(
        init_cfg=dict(_delete_=True, type='Pretrained', checkpoint='model_zoo/ae_hg_crowdbench.pth', prefix='backbone.')
    ),
    neck=dict(type='FeatureMapProcessor', concat=True),  # of both stacks, 68 channels each
    head=dict(
        _delete_=True,
        type='CIDHead',
        in_channels=136,
        num_keypoints=17,
        gfd_channels=32,
        coupled_heatmap_loss=dict(type='FocalHeatmapLoss', loss_weight=1.0),
        decoupled_heatmap_loss=dict(type='FocalHeatmapLoss', loss_weight=4.0),
        contrastive_loss=dict(type='InfoNCELoss', temperature=0.05, loss_weight=1.0),
        decoder=cid_codec,
    ),
    train_cfg=dict(max_train_instances=200),
    test_cfg=dict(_delete_=True, flip_test=False),
)

load, fit, flip, _, mask, pack = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[load, fit, flip, dict(type='GenerateTarget', encoder=cid_codec), mask, pack])
)
val_dataloader = dict(batch_size=1)  # MMPose's head decodes one image at a time
test_dataloader = dict(batch_size=1)

epochs = 3  # as ae_hg_crowdbench_longer.py
train_cfg = dict(max_epochs=epochs)
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=epochs)]

# Scores and suppression of MMPose's CID config.
val_evaluator = [
    dict(type='BottomupCocoMetric', nms_mode='oks_nms', nms_thr=0.8, score_mode='keypoint'),
    *_base_.val_evaluator[1:],
]
test_evaluator = val_evaluator
