# Table 5: three passes per person.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(feedback_passes=3))
