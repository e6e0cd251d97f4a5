# Tables 1 and 2: Associative Embedding, tested at one scale with the weights from which the decoder starts.
_base_ = ['../ae_hg_coco.py']
