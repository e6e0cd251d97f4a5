# MoveNet's heatmaps grouped by AE's algorithm, for comparison: no training. The tags say from which centre MoveNet
# regresses a joint; people apart differ by more than AE's threshold of 1.
_base_ = ['movenet_photo.py']

keypoints, tags = 17, 34
model = dict(
    backbone=dict(levels=('heatmaps', 'tags')),
    neck=dict(type='StackedFeatures', in_channels=[keypoints, tags], in_index=[0, 1]),
    head=dict(
        _delete_=True,
        type='StackedAEHead',
        num_keypoints=keypoints,
        tag_dim=2,
        decoder=dict(
            type='TrainableAssociativeEmbedding',
            input_size=_base_.input_size,
            heatmap_size=_base_.input_size,
            decode_keypoint_order=[0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16],
            decode_max_instances=30,
            decode_center_shift=1.0,  # chosen on val, as MoveNet's offsets are not read
        ),
    ),
    test_cfg=dict(flip_test=False, restore_heatmap_size=True),
)
