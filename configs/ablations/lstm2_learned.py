# Table 3: a second LSTM that refines the people in the order in which LSTM1 found them.
_base_ = ['../rnnpose_hg_{{$ABLATION_DATA:coco}}.py']

model = dict(head=dict(second_lstm=dict(hidden_channels=(68, 34), feedback_passes=0, order='learned')))
