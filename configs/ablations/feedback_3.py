# Table 5: three passes per person.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(feedback_passes=3))
