# As rnnpose_hg_crowdbench.py, tested on the split with 6 to 12 people in every image.
_base_ = ['rnnpose_hg_crowdbench.py']

test_dataloader = dict(dataset=dict(ann_file='annotations/crowded.json', data_prefix=dict(img='crowded/')))
