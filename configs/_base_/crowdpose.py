# CrowdPose: 14 keypoints; AP by crowd index with the metric `keypoints_crowd`, whose OKS uses boxes for want of areas.
# Its protocol: train on trainval (12,000 images), report on test (8,000). So nothing is validated on test during a
# training; choose settings with mmpose_crowdpose_train.json and mmpose_crowdpose_val.json instead.
crowdpose = dict(type='CrowdPoseDataset', data_root='data/crowdpose/', data_prefix=dict(img='images/'))
crowdpose_trainval = dict(crowdpose, ann_file='annotations/mmpose_crowdpose_trainval.json')
crowdpose_test = dict(crowdpose, ann_file='annotations/mmpose_crowdpose_test.json')
crowdpose_evaluator = [
    dict(
        type='BottomupCocoMetric',
        ann_file='data/crowdpose/annotations/mmpose_crowdpose_test.json',  # the crowd index of images without people
        nms_mode='none',
        score_mode='bbox',
        use_area=False,
        iou_type='keypoints_crowd',
        prefix='crowdpose',
    ),
    dict(type='PersonCountMetric'),
]
