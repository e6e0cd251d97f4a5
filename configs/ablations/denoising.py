# Not the paper's: one more step is given noised maps of one person and is supervised by that very person.
_base_ = ['../rnnpose_hg_coco.py']

log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50)
        for part in ('heatmap', 'stop', 'denoising_heatmap', 'denoising_stop')
    ]
)
# sigmas: COCO's, of the OKS by which joints are moved.
model = dict(
    head=dict(
        denoising=dict(
            sigmas=[0.026]
            + [side for sigma in (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089) for side in (sigma, sigma)]
        )
    )
)
