# Our decoder, see rnnpose_full_crowdbench.py, by the paper's recipe. Never trained on COCO here. Its layers have the
# widths of CrowdBench, the last K: with those of rnnpose_context_coco.py a person costs twice the paper's operations.
_base_ = ['rnnpose_context_coco.py']

model = dict(
    head=dict(
        hidden_channels=(32, 64, 64, 17),
        claimed_maps=True,
        second_lstm=dict(hidden_channels=(32, 24), others=True),
        denoising=dict(),
        stop_loss=dict(loss_weight=10),  # of a sum over cells; with 1 a decoder on photographs did not learn to stop
    )
)
log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50)
        for part in ('heatmap', 'second_lstm_heatmap', 'stop', 'denoising_heatmap', 'denoising_stop')
    ]
)
