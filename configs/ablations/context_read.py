# Not the paper's: global context of the hidden states and the features, for the paper's layers.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(context='read'))
