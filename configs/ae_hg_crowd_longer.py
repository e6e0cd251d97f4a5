# Associative Embedding trained on for as long as the decoder took, for tools/compare_crowd.py: both networks start from
# ae_hg_crowd.py's last checkpoint and get the same time more. Measured on the same cores, the decoder makes 23.7
# iterations per second, 253 s for its 3 epochs of 2000; AE makes 19 to 20, so that 253 s are 4,800 to 5,060 of them, or
# 4.8 to 5.1 epochs of 1000. Rounded up, in favour of AE, to
longer_epochs = 6

_base_ = ['ae_hg_crowd.py']

load_from = f'work_dirs/ae_hg_crowd/epoch_{_base_.ae_epochs}.pth'
train_cfg = dict(max_epochs=longer_epochs)
# Half the first rate: the network has converged at 1e-5, and Adam's averages begin anew.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=longer_epochs, eta_min=1e-5, convert_to_iter_based=True),
]
# The decoder's config has them, too.
custom_hooks = [
    *_base_.custom_hooks,
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=0.008, interval=4),
]
