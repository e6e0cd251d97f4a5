# Table 4 (a, b'): when too many people are found, all steps are matched with the true people.
_base_ = ['../rnnpose_hg_coco.py']

model = dict(head=dict(heatmap_loss=dict(type='HungarianHeatmapLoss', overcount='all')))
