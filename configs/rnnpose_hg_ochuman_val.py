# As rnnpose_hg_ochuman.py, on the val split.
_base_ = ['rnnpose_hg_ochuman.py']

test_dataloader = dict(dataset=_base_.ochuman_val)
