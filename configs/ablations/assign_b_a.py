# Table 4 (b, a'): when too few people are found, steps below omega are matched too.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='all')))
