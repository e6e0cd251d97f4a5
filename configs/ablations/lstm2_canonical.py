# Table 3: LSTM2 gets the people ordered by their place in the image.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(order='canonical')))
