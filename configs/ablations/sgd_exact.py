# Section 4.1, E-SGD: images of at most 8 people, backpropagated through the whole sequence at once.
_base_ = ['../rnnpose_hg_coco.py']

train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='SmallGroups', max_people=8), *_base_.train_dataloader.dataset.pipeline])
)
model = dict(head=dict(chunk_size=None))
