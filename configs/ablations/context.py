# Not the paper's: whole-picture context and layers on a coarser grid.
_base_ = ['../rnnpose_context_coco.py']
