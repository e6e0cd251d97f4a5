# Algorithm 1, line 14, read as an optimizer step after every chunk instead of one per picture.
_base_ = ['../rnnpose_hg_coco.py']

default_hooks = dict(chunked_backprop=dict(mode='step'))
