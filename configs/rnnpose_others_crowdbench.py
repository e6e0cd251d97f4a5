# Claimed maps, and an LSTM2 that sees everyone else: the first stage of rnnpose_full_crowdbench.py.
_base_ = ['rnnpose_context_crowdbench.py']

model = dict(head=dict(claimed_maps=True, second_lstm=dict(hidden_channels=(32, 24), others=True)))

train_cfg = dict(max_epochs=4)
optim_wrapper = dict(type='Bfloat16OptimWrapper')  # OptimWrapper where the processor has no bfloat16
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=4)]
# All people of an image from iteration 4,800 of 8,000 on.
*other_hooks, grow = _base_.custom_hooks
custom_hooks = [*other_hooks, dict(grow, every=1200)]
