# Section 4.1: LSTM1 without feedback loop, LSTM2 with two passes.
_base_ = ['lstm2_learned.py']

model = dict(head=dict(feedback_passes=0, second_lstm=dict(feedback_passes=2)))
