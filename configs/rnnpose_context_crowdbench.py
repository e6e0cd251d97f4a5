# Our decoder on CrowdBench: every cell is told of the whole picture, and two layers lie on a coarser grid.
_base_ = ['rnnpose_hg_crowdbench.py']

model = dict(head=dict(context='read', hidden_channels=(32, 64, 64, 24), layer_strides=(1, 4, 4, 1)))
