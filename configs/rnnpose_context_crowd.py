# Our decoder on the synthetic crowd of `make demo`, see rnnpose_context_crowdbench.py.
_base_ = ['rnnpose_hg_crowd.py']

model = dict(head=dict(context='read'))
