# Associative Embedding on CrowdPose by its protocol (trainval to test), by the recipe of ae_hg_coco.py. A stack: 14
# heatmaps, 14 tags, 28 other channels.
_base_ = ['ae_hg_coco.py', '_base_/crowdpose.py']

codec = dict(_base_.codec, decode_keypoint_order=[12, 13, 0, 1, 6, 7, 2, 3, 4, 5, 8, 9, 10, 11])
model = dict(
    backbone=dict(out_channels=56),
    head=dict(num_keypoints=14, decoder=dict(codec, heatmap_size=_base_.input_size)),
)

load, affine, flip, generate, mask, pack = _base_.train_dataloader.dataset.pipeline
train_dataloader = dict(
    dataset=dict(_base_.crowdpose_trainval, pipeline=[load, affine, flip, dict(generate, encoder=codec), mask, pack])
)
val_dataloader = val_evaluator = val_cfg = None
test_dataloader = dict(dataset=_base_.crowdpose_test)
test_evaluator = _base_.crowdpose_evaluator
