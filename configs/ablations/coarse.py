# Not the paper's: the context on a coarser grid, which pays for wider layers.
_base_ = ['../rnnpose_context_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(state_stride=2, hidden_channels=(48, 40, 48)))
