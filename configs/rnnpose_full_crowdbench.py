# Our decoder on CrowdBench, second stage: whole sequences, denoising, and the losses of equations 2 to 4 as printed.
_base_ = ['rnnpose_others_crowdbench.py']

model = dict(
    head=dict(
        denoising=dict(),
        decoder=dict(keypoint_threshold=0.15),  # tau: costs no AP on val, tools/joint_threshold.py
        heatmap_loss=dict(reduction='sum', foreground_weight=0),
        stop_loss=dict(loss_weight=10),
    )
)

train_cfg = dict(max_epochs=6)
optim_wrapper = dict(clip_grad=None, optimizer=dict(lr=1e-3))
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=6)]
log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50)
        for part in ('heatmap', 'second_lstm_heatmap', 'stop', 'denoising_heatmap', 'denoising_stop')
    ]
)
*other_hooks, average, grow = _base_.custom_hooks  # sequences do not grow any more
custom_hooks = [*other_hooks, dict(average, momentum=0.01)]
load_from = 'work_dirs/rnnpose_others_crowdbench/epoch_4.pth'
