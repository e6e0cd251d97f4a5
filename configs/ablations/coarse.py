# Not the paper's: a coarser grid without context, the layers as those of context.py.
_base_ = ['../rnnpose_context_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(context='none'))
