# Tables 1 and 2, test only: Associative Embedding with flip and at the scales of Newell et al. (2017), 0.5, 1 and 2.
_base_ = ['ae.py']

test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], aug_scales=[0.5, 2]),
    _base_.test_pipeline[2],
]
val_dataloader = test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
# The shift: MMPose's AE has cell = pixel / 4, so that mirrored cells fall between cells.
model = dict(test_cfg=dict(flip_test=True, shift_heatmap=True, multiscale_test=True))
