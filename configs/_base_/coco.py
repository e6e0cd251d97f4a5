# COCO people at 512 x 512 px, 128 x 128 cells. Point it at your copy with
# --cfg-options train_dataloader.dataset.data_root=... val_dataloader.dataset.data_root=... (see the README).
dataset_type = 'CocoDataset'
data_root = 'data/coco/'
data_mode = 'bottomup'  # MMPose's Pose2DInferencer reads it here
input_size = (512, 512)
heatmap_size = (128, 128)

augmentation = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupRandomAffine', input_size=input_size),
    dict(type='RandomFlip', direction='horizontal'),
]
test_pipeline = [
    dict(type='LoadPoseImage'),
    dict(type='BottomupResize', input_size=input_size),
    dict(
        type='PackPoseScales',
        meta_keys=(
            'id', 'img_id', 'img_path', 'ori_shape', 'img_shape', 'input_size', 'input_center', 'input_scale',
            'flip_indices', 'skeleton_links', 'raw_ann_info', 'aug_scales',
        ),
    ),
]  # fmt: skip

train_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=False,  # so that an epoch's augmentation depends on its seed alone (SeedEpochHook)
    worker_init_fn=dict(type='seed_worker'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_train2017.json',
        data_prefix=dict(img='train2017/'),
        pipeline=[],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/person_keypoints_val2017.json',
        data_prefix=dict(img='val2017/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# What the configs for OCHuman, which is for testing only, put in the place of COCO. Image ids start at 1 both in its
# test and in its val split, so the two files must never be merged.
ochuman = dict(
    type='OCHumanDataset',
    data_root='data/ochuman/',
    ann_file='annotations/ochuman_coco_format_test_range_0.00_1.00.json',
    data_prefix=dict(img='images/'),
)
ochuman_val = dict(ann_file='annotations/ochuman_coco_format_val_range_0.00_1.00.json')

# Without ann_file the metric takes the data set's own, so one option moves both.
val_evaluator = [
    dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox'),
    dict(type='PersonCountMetric'),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

# Four stacks of 68 channels: 17 heatmaps, 17 tags and the 34 intermediate ones the decoder reads (paper, section 3.3).
backbone = dict(type='HourglassAENet', num_stacks=4, out_channels=68)
data_preprocessor = dict(
    type='PoseScalesPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
