# Photographs of several people at 256 px, as projects/photographs/prepare.py lays them out: 64 x 64 cells.
dataset_type = 'CocoDataset'
data_root = 'data/photographs/'
data_mode = 'bottomup'  # MMPose's Pose2DInferencer reads it here
input_size = (256, 256)
heatmap_size = (64, 64)

augmentation = [
    dict(
        type='BottomupRandomAffine',
        input_size=input_size,
        scale_type='long',
        scale_factor=(0.6, 1.25),
        shift_factor=0.15,
        pad_val=(114, 114, 114),
    ),
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

# People cut out of single_train's images and pasted over others.
occlusion = dict(
    type='CopyPasteOcclusion',
    annotations=f'{data_root}annotations/singles_train.json',
    img_prefix=f'{data_root}images/',
    iou=(0.15, 0.75),
)


def source(name, *occlusions):
    """One of the files, with so many people pasted, each with its probability."""
    pasted = [dict(occlusion, prob=prob) for prob in occlusions]
    return dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file=f'annotations/{name}.json',
        data_prefix=dict(img='images/'),
        pipeline=[dict(type='LoadPoseImage'), *pasted],
    )


train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    worker_init_fn=dict(type='seed_worker'),
    dataset=dict(
        type='CombinedDataset',
        metainfo=dict(from_file='configs/_base_/datasets/coco.py'),
        datasets=[
            source('groups_train', 0.5, 0.2),
            source('singles_train', 0.7, 0.4, 0.2),
            source('mosaics_train', 0.3),
        ],
        sample_ratio_factor=[1, 1, 1],
        pipeline=[],
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_mode=data_mode,
        ann_file='annotations/groups_val.json',
        data_prefix=dict(img='images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Without ann_file the metric takes the data set's own, so one option moves both.
val_evaluator = [
    dict(type='BottomupCocoMetric', nms_mode='none', score_mode='bbox'),
    dict(type='PersonCountMetric'),
]
test_evaluator = val_evaluator
val_cfg = dict()
test_cfg = dict()

# Google's MoveNet MultiPose, converted by tools/convert_checkpoint.py; it takes RGB from -1 to 1.
data_preprocessor = dict(
    type='PoseScalesPreprocessor', mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], bgr_to_rgb=True
)
backbone = dict(
    type='MoveNetBackbone',
    init_cfg=dict(type='Pretrained', checkpoint='data/photographs/movenet.pth', prefix='backbone.'),
)
