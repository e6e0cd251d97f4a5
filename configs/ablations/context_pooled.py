# Not the paper's: whole-picture context from the hidden states alone.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(context='pooled'))
