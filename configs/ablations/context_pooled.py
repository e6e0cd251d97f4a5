# Not the paper's: global context of the hidden states only.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(context='pooled'))
