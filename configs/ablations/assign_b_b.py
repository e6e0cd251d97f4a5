# Table 4 (b, b'): both.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='all', overcount='all')))
