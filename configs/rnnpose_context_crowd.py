# As rnnpose_context_crowdbench.py, on the synthetic crowd of `make demo`.
_base_ = ['rnnpose_hg_crowd.py']

model = dict(head=dict(context='read', state_stride=2, hidden_channels=(48, 40, 48)))
