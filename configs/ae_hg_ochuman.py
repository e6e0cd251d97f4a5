# Test only: the weights of ae_hg_coco.py on OCHuman's test split; the val split: ae_hg_ochuman_val.py.
_base_ = ['ae_hg_coco.py']

train_dataloader = train_cfg = optim_wrapper = param_scheduler = auto_scale_lr = None
val_dataloader = val_evaluator = val_cfg = None

test_dataloader = dict(dataset=_base_.ochuman)
