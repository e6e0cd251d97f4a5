# Table 3: LSTM2 gets the people in descending order of the stop probability.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(order='confidence')))
