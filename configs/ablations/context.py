# Not the paper's: global context, and the middle layers on a coarser grid.
_base_ = ['../rnnpose_context_coco.py']
