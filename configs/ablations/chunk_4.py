# Table 6: T = 4, people per backpropagation.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(chunk_size=4))
