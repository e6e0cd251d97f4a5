# Table 4 (a, b'): with too many people found, all steps compete for the true ones.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', overcount='all')))
