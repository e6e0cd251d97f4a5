# Associative Embedding trained on for as long as the decoder. There is no such config for COCO.
_base_ = ['../ae_hg_{{$ABLATION_DATA:coco}}_longer.py']
