# Not the paper's: whole-picture context on the paper's grid, its layers as they are.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(context='read'))
