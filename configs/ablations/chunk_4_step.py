# Table 6 with an optimizer step per chunk: T = 4.
_base_ = ['chunk_step.py']

model = dict(head=dict(chunk_size=4))
