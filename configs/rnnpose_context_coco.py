# As rnnpose_hg_coco.py, with the decoder that did best on CrowdBench (README). Never trained on COCO here.
_base_ = ['rnnpose_hg_coco.py']

model = dict(head=dict(context='read', state_stride=2))
