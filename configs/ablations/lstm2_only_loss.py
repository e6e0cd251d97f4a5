# Section 4.1: the heatmap loss is on LSTM2 only.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(first_lstm_loss=False))
