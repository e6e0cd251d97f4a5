# The paper's decoder with as many parameters as context_read has on CrowdBench.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(hidden_channels=(36, 28, 28)))
