# Global context and coarse middle layers, by the paper's recipe. Never trained on COCO here. A person
# costs 1.3 times the operations of the paper's decoder.
_base_ = ['rnnpose_hg_coco.py']

model = dict(head=dict(context='read', hidden_channels=(68, 128, 128, 17), layer_strides=(1, 4, 4, 1)))
