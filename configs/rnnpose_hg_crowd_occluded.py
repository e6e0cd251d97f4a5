# As rnnpose_hg_crowd.py, tested on the split whose images hold a pair of people with bbox IoU > 0.5.
_base_ = ['rnnpose_hg_crowd.py']

test_dataloader = dict(dataset=dict(ann_file='annotations/occluded.json', data_prefix=dict(img='occluded/')))
