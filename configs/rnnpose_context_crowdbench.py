# Our decoder on CrowdBench: as the paper's, but every cell is told of the whole picture before each pass.
_base_ = ['rnnpose_hg_crowdbench.py']

model = dict(head=dict(context='read'))
