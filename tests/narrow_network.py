"""Options that make rnnpose_hg_crowd.py's network small enough to train within seconds, from random weights."""

NARROW = [
    'model.freeze_backbone=False',
    'model.backbone.init_cfg=None',
    'model.backbone.num_stacks=1',
    'model.backbone.feat_channels=16',
    'model.backbone.stage_channels=(16,16,16,16)',
    'model.neck.in_channels=[68]',
    'model.head.in_channels=68',
    'model.head.hidden_channels=(8,8,8)',
]
