# Our decoder on CrowdBench: global context is added to the gates of every cell, and two layers have a coarser grid.
_base_ = ['rnnpose_hg_crowdbench.py']

model = dict(head=dict(context='read', hidden_channels=(32, 64, 64, 24), layer_strides=(1, 4, 4, 1)))
