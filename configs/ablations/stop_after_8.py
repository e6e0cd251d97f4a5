# Section 3.2.1: a training sequence ends after 8 people; inference does not.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(max_train_instances=8))
