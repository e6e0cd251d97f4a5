# Associative Embedding on CrowdBench trained on for as long as the decoders take, from the same network as they.
longer_epochs = 3

_base_ = ['ae_hg_crowdbench.py']

load_from = 'model_zoo/ae_hg_crowdbench.pth'
train_cfg = dict(max_epochs=longer_epochs)
# Half the first rate: the network has converged at 1e-5, and Adam's averages begin anew.
optim_wrapper = dict(optimizer=dict(lr=1e-3))
warm_up, cosine = _base_.param_scheduler
param_scheduler = [warm_up, dict(cosine, end=longer_epochs)]
