# The base of every table: 2 passes, (a, a'), T = 8, one LSTM. The config of rnnpose_hg_coco.py, unchanged.
_base_ = ['../rnnpose_hg_coco.py']
