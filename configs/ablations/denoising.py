# Not the paper's: one more step is given noised maps of one person and is supervised by that very person.
_base_ = ['../rnnpose_hg_coco.py']

log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50)
        for part in ('heatmap', 'stop', 'denoising_heatmap', 'denoising_stop')
    ]
)
model = dict(head=dict(denoising=dict(sigmas=_base_.keypoint_sigmas)))
