# Table 7: 4 layers in LSTM2, random order.
_base_ = ['lstm2_layers_4_learned.py']

model = dict(head=dict(second_lstm=dict(order='random')))
