# Tables 1 and 2: Associative Embedding itself, tested at one scale on the weights the decoder starts from.
_base_ = ['../ae_hg_coco.py']
