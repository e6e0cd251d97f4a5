# Not the paper's: whole-picture context for the paper's layers.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(context='read'))
