# What every config shares: MMPose's hooks, and runs that can be repeated and resumed.
default_scope = 'mmpose'
custom_imports = dict(imports=['rnnpose_plugin'])

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='PoseVisualizationHook', enable=False),
)
custom_hooks = [
    dict(type='SyncedSaveHook'),
    dict(type='SeedEpochHook'),
    dict(type='InvalidLossHook'),
    dict(type='CheckpointFitHook'),
]

# The configs add max_epochs and val_interval; one by iterations: train_cfg = dict(_delete_=True, by_epoch=False, ...).
train_cfg = dict(type='ResumableEpochLoop')

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
randomness = dict(seed=0)

# TensorBoard instead of the JSON file: --cfg-options visualizer.vis_backends.0.type=TensorboardVisBackend
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='PoseLocalVisualizer', vis_backends=vis_backends, name='visualizer')
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True, num_digits=6)
log_level = 'INFO'
load_from = None
resume = False
