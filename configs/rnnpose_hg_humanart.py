# As rnnpose_hg_coco.py, on Human-Art's people in paintings and photographs: COCO's 17 keypoints. Never trained here.
_base_ = ['rnnpose_hg_coco.py']

humanart = dict(type='HumanArtDataset', data_root='data/', data_prefix=dict(img=''))
train_dataloader = dict(dataset=dict(humanart, ann_file='HumanArt/annotations/training_humanart.json'))
val_dataloader = dict(dataset=dict(humanart, ann_file='HumanArt/annotations/validation_humanart.json'))
test_dataloader = val_dataloader
