# Table 6: T = 2, people per backpropagation.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(chunk_size=2))
