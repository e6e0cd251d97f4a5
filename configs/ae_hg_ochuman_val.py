# As ae_hg_ochuman.py, on the val split.
_base_ = ['ae_hg_ochuman.py']

test_dataloader = dict(dataset=dict(ann_file='annotations/ochuman_coco_format_val_range_0.00_1.00.json'))
