# Section 3.2.1: a training sequence simply stops after 8 people; inference goes on.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(max_train_instances=8))
