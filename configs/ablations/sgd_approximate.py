# Section 4.1, A-SGD: the same images, backpropagated in chunks of 4 people.
_base_ = ['sgd_exact.py']

default_hooks = dict(chunked_backprop=dict(chunk_size=4))
