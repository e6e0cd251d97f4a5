# Tables 1 and 2, test only: the decoder of lstm2_learned.py, with flip and at the scales of Newell et al. (2017),
# 0.5, 1 and 2. Missing joints come from the AE maps (section 3.3): heatmaps and tags of the last stack.
_base_ = ['lstm2_learned.py']

test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], aug_scales=[0.5, 2]),
    _base_.test_pipeline[2],
]
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
model = dict(
    neck=dict(ae_channels=34),
    test_cfg=dict(flip_test=True, multiscale_test=True, ae_refinement=True),
)
