# Algorithm 1, line 14, read as one optimizer step per chunk instead of one per image.
_base_ = ['../rnnpose_hg_coco.py']

default_hooks = dict(chunked_backprop=dict(mode='step'))
