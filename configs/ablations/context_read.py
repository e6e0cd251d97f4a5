# Not the paper's: whole-picture context for the paper's layers.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(context='read'))
