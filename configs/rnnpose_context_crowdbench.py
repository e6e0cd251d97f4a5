# Our decoder on CrowdBench: every cell is told of the whole picture, and the ConvLSTM's grid is half as fine, which
# pays for wider layers.
_base_ = ['rnnpose_hg_crowdbench.py']

model = dict(head=dict(context='read', state_stride=2, hidden_channels=(48, 40, 48)))
