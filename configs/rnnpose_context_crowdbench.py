# Global context is added to the gates of every cell, and two layers have a coarser grid.
_base_ = ['rnnpose_hg_crowdbench.py']

model = dict(
    head=dict(
        context='read',
        hidden_channels=(32, 64, 64, 24),
        layer_strides=(1, 4, 4, 1),
        heatmap_loss=dict(reduction='keypoint_mean', foreground_weight=8),
        stop_loss=dict(type='StopLoss', loss_weight=4),
    )
)
optim_wrapper = dict(clip_grad=dict(_delete_=True, max_norm=10.0))
