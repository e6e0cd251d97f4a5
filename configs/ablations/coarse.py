# Not the paper's: the middle layers on a coarser grid, without global context.
_base_ = ['../rnnpose_context_coco.py']

model = dict(head=dict(context='none'))
