# Table 6: T = 6, people per backpropagation.
_base_ = ['../rnnpose_hg_coco.py']

default_hooks = dict(chunked_backprop=dict(chunk_size=6))
