# Table 5: no feedback loop.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(feedback_passes=0))
