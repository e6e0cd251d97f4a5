# Test only: the weights of ae_hg_coco.py on OCHuman's test split; the val split: ae_hg_ochuman_val.py.
# Image ids start at 1 in both, so the two files must never be merged.
_base_ = ['ae_hg_coco.py']

train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None

test_dataloader = dict(
    dataset=dict(
        type='OCHumanDataset',
        data_root='data/ochuman/',
        ann_file='annotations/ochuman_coco_format_test_range_0.00_1.00.json',
        data_prefix=dict(img='images/'),
    )
)
