# Not the paper's: whole-picture context from the hidden states alone.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(context='pooled'))
