"""Backbone and decoder trained together: both losses, their gradients, the labels of both codecs, refused settings."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpose.registry import DATASETS, MODELS

import projects.crowdbench.synthetic_crowd as crowd

ROOT = Path(__file__).parent.parent


def config(**model):
    cfg = Config.fromfile(ROOT / 'configs' / 'rnnpose_joint_crowdbench.py')
    narrow = dict(num_stacks=1, feat_channels=16, stage_channels=(16, 16, 16, 16), init_cfg=None)
    cfg.model.backbone.update(narrow)
    cfg.model.neck.in_channels = [68]
    cfg.model.head.update(hidden_channels=(8, 8, 8, 8))
    cfg.model.update(model)
    return cfg


def build(**model):
    torch.manual_seed(0)
    return MODELS.build(config(**model).model)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Two images of CrowdBench."""
    folder = tmp_path_factory.mktemp('crowd')
    crowd.write_split(folder, 'train', 2, 0, crowd.CROWDBENCH)
    return folder


@pytest.fixture
def batch(folder):
    """The images through the pipeline of the config."""
    dataset = config().train_dataloader.dataset
    dataset.data_root = str(folder)
    return [DATASETS.build(dataset)[index] for index in range(2)]


def prepared(model, batch):
    data = dict(inputs=[sample['inputs'] for sample in batch], data_samples=[s['data_samples'] for s in batch])
    data = model.data_preprocessor(data, training=True)
    return data['inputs'], data['data_samples']


def test_the_pipeline_gives_the_labels_of_both_codecs(batch):
    for sample in batch:
        labels = sample['data_samples'].gt_instance_labels
        people = len(sample['data_samples'].gt_instances)
        assert labels.keypoint_labels.shape == (people, 17, 2) and labels.keypoint_indices.shape == (people, 17, 2)
        assert sample['data_samples'].gt_fields.heatmaps.shape == (17, 32, 32)


@pytest.mark.parametrize('chunk_size', [None, 2])
def test_losses_and_gradients_are_the_sum_of_both_heads(batch, chunk_size):
    """Against two passes, each with one head's losses, added up."""
    model = build(ae_loss_weight=3.0).train()
    model.head.chunk_size = chunk_size
    model.head.first_lstm.noise = 0.0
    for layer in model.modules():  # two passes would update their statistics twice
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            layer.eval()
    model.head.norm.eval()
    inputs, samples = prepared(model, batch)
    parsed, _ = model.parse_losses(model.loss(inputs, samples))
    parsed.backward()
    joint = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    decoder = model.head.loss(model.neck(model.backbone(inputs)), samples)['loss']
    decoder.backward()
    ae = sum(model.ae_head.loss(model.backbone(inputs), samples).values())
    (3.0 * ae).backward()
    torch.testing.assert_close(parsed, decoder + 3.0 * ae)
    # The sums are made in another order: float32 of gradients up to hundreds.
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(joint[name], parameter.grad, rtol=1e-3, atol=1e-3, msg=name)
    assert joint['backbone.stem.0.conv.weight'].abs().sum() > 0


@pytest.mark.parametrize(
    'setting, sentence',
    [
        (dict(freeze_backbone=True), 'freeze_backbone is True, but JointPoseEstimator trains the backbone'),
        (dict(ae_loss_weight=0), 'ae_loss_weight is 0; use a positive number'),
        (dict(ae_loss_weight=float('nan')), 'ae_loss_weight is nan; use a positive number'),
    ],
)
def test_bad_settings(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(**setting)


def test_samples_without_the_labels_of_ae(batch):
    model = build()
    inputs, samples = prepared(model, batch)
    samples = [sample.clone() for sample in samples]
    for sample in samples:
        del sample.gt_instance_labels.keypoint_indices
    with pytest.raises(ValueError, match='The samples have no keypoint_indices of AE; put a GenerateTarget'):
        model.loss(inputs, samples)
