# Our decoder on the synthetic crowd of `make demo`, see rnnpose_context_crowdbench.py.
_base_ = ['rnnpose_hg_crowd.py']

model = dict(head=dict(context='read', hidden_channels=(32, 64, 64, 24), layer_strides=(1, 4, 4, 1)))
