# Figure 6: stop threshold omega = 0.1, in training and at inference.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(stop_threshold=0.1))
