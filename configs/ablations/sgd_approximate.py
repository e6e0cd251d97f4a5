# Section 4.1, A-SGD: the same images, backpropagated in chunks of 4 people.
_base_ = ['sgd_exact.py']

model = dict(head=dict(chunk_size=4))
