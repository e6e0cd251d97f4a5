# Table 4 (a, b'): with too many people found, all steps compete for the true ones.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', overcount='all')))
