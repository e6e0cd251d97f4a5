# Our decoder by the paper's recipe: every cell is told of the whole picture. Never trained on COCO here.
_base_ = ['rnnpose_hg_coco.py']

model = dict(head=dict(context='read'))
