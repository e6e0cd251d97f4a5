# DEKR (Geng et al., CVPR 2021) on CrowdBench: MMPose's head and losses on the network of ae_hg_crowdbench.py, as CID.
# The head needs the compiled ops of a full mmcv.
_base_ = ['cid_hg_crowdbench.py']

dekr_codec = dict(
    type='SPR',
    input_size=_base_.input_size,
    heatmap_size=_base_.heatmap_size,
    sigma=(2, 1),  # half of MMPose's, whose cells are a quarter as large a part of the image
    minimal_diagonal_length=2,
    generate_keypoint_heatmaps=True,
    decode_max_instances=30,
)
model = dict(
    head=dict(
        _delete_=True,
        type='DEKRHead',
        in_channels=136,
        num_keypoints=17,
        heatmap_loss=dict(type='KeypointMSELoss', use_target_weight=True),
        displacement_loss=dict(
            type='SoftWeightSmoothL1Loss',
            use_target_weight=True,
            supervise_empty=False,
            beta=1 / 9,
            loss_weight=0.002,
        ),
        decoder=dekr_codec,
    ),
    train_cfg=dict(_delete_=True),
    test_cfg=dict(_delete_=True, flip_test=False, nms_dist_thr=0.05, shift_heatmap=True, align_corners=False),
)

load, fit, flip, _, mask, pack = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(pipeline=[load, fit, flip, dict(type='GenerateTarget', encoder=dekr_codec), mask, pack])
)

# Scores and suppression of MMPose's DEKR config.
val_evaluator = [dict(type='BottomupCocoMetric', nms_mode='none', score_mode='keypoint'), *_base_.val_evaluator[1:]]
test_evaluator = val_evaluator
