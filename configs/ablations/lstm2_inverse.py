# Table 3: LSTM2 gets the people in the inverse of LSTM1's order.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(order='inverse')))
