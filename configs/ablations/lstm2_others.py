# Not the paper's: LSTM2 also gets the maximum over everyone else's heatmaps.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(second_lstm=dict(others=True)))
