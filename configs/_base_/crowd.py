# The synthetic crowd (tools/make_crowd.py): 64 px images, 16 x 16 cells.
dataset_type = 'CocoDataset'
data_root = 'data/crowd/'
data_mode = 'bottomup'  # MMPose's Pose2DInferencer reads it here
input_size = (64, 64)
heatmap_size = (16, 16)

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
    batch_size=2,
    num_workers=1,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    worker_init_fn=dict(type='seed_worker'),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/'),
        pipeline=[],
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    **{key: value for key, value in val_dataloader.items() if key != 'dataset'},
    dataset=dict(val_dataloader['dataset'], ann_file='annotations/plain.json', data_prefix=dict(img='plain/')),
)

# Without ann_file the metric takes the data set's own, so one option moves both.
val_evaluator = [
    dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox'),
    dict(type='PersonCountMetric'),
    dict(type='MixingMetric'),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

augmentation = [
    dict(type='LoadPoseImage'),
    # Only the fit into the input size: rotating or scaling 64 px images blurs them, and new ones cost nothing.
    dict(
        type='BottomupRandomAffine',
        input_size=input_size,
        shift_prob=0,
        scale_prob=0,
        rotate_prob=0,
        scale_type='long',
        pad_val=(114, 114, 114),
    ),
    dict(type='RandomFlip', direction='horizontal'),
]

ae_epochs = 7  # of ae_hg_crowd.py; rnnpose_hg_crowd.py starts from the last

# The small hourglass: 2 stacks of 68 channels (17 heatmaps, 17 tags, 34 more).
backbone = dict(
    type='CrowdHourglassAENet',
    downsample_times=3,
    num_stacks=2,
    out_channels=68,
    stage_channels=(64, 64, 96, 128),
    feat_channels=64,
    # MMPose's std of 0.001 leaves all tags equal, a saddle of the push loss that takes long to leave.
    init_cfg=[
        dict(type='Kaiming', layer=['Conv2d']),
        dict(type='Constant', val=1, layer=['_BatchNorm']),
    ],
)
data_preprocessor = dict(
    type='PoseScalesPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True
)
