# The recipe that every table is measured against: 2 passes, (a, a'), T = 8, one LSTM. Nothing is changed here.
# Environment variable ABLATION_DATA: coco (if it is not set) or crowd, here and in every file of this folder.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']
