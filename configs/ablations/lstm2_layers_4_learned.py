# Table 7: 4 layers in LSTM2, learned order.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(hidden_channels=(68, 34, 17, 8))))
