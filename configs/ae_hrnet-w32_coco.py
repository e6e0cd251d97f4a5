# Associative Embedding on COCO with MMPose's HRNet-W32 and its settings (ae_hrnet-w32_8xb24-300e_coco-512x512.py);
# flip is off as in the other configs, and decode_center_shift is that of how it is trained here.
_base_ = ['ae_hg_coco.py', '_base_/hrnet_w32.py']

model = dict(
    backbone=dict(_base_.hrnet_w32, _delete_=True),
    head=dict(type='TrainableAEHead', in_channels=32, deconv_out_channels=None),
)
