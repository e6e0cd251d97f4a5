# Table 7: 3 layers in LSTM2, random order.
_base_ = ['lstm2_layers_3_learned.py']

model = dict(head=dict(second_lstm=dict(order='random')))
