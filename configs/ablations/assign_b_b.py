# Table 4 (b, b'): both.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='all', overcount='all')))
