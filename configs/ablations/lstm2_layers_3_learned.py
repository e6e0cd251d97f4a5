# Table 7: 3 layers in LSTM2, the order learned.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(hidden_channels=(68, 34, 17))))
