# Section 4.1: the heatmap loss is on LSTM2 only.
_base_ = ['lstm2_learned.py']

log_processor = dict(
    custom_cfg=[dict(data_src=part, method_name='mean', window_size=50) for part in ('second_lstm_heatmap', 'stop')]
)
model = dict(head=dict(first_lstm_loss=False))
