# Section 3.3: without the normalisation of the features by running statistics.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(feature_norm=None))
