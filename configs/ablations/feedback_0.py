# Table 5: no feedback loop.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(feedback_passes=0))
