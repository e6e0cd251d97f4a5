# As rnnpose_res50_coco.py, on COCO-WholeBody: 133 keypoints of body, feet, face and hands. Never trained here.
# No layer of the decoder is narrower than the 133 maps it draws.
_base_ = ['rnnpose_res50_coco.py']

model = dict(head=dict(num_keypoints=133, hidden_channels=(133, 133, 133)))

wholebody = dict(type='CocoWholeBodyDataset')
train_dataloader = dict(dataset=dict(wholebody, ann_file='annotations/coco_wholebody_train_v1.0.json'))
val_dataloader = dict(dataset=dict(wholebody, ann_file='annotations/coco_wholebody_val_v1.0.json'))
test_dataloader = val_dataloader
val_evaluator = [
    dict(
        type='BottomupWholeBodyMetric',
        ann_file='data/coco/annotations/coco_wholebody_val_v1.0.json',  # it has areas and joints of every part
        nms_mode='none',
        score_mode='bbox',
    ),
    dict(type='PersonCountMetric'),
]
test_evaluator = val_evaluator
