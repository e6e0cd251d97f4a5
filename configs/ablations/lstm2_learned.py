# Table 3: a second LSTM that refines the people in the order in which LSTM1 found them.
_base_ = ['../rnnpose_hg_coco.py']

log_processor = dict(
    custom_cfg=[
        dict(data_src=part, method_name='mean', window_size=50) for part in ('heatmap', 'second_lstm_heatmap', 'stop')
    ]
)
model = dict(head=dict(second_lstm=dict(hidden_channels=(68, 34), feedback_passes=0, order='learned')))
