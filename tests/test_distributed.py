"""Two processes whose images need different numbers of chunks: neither waits forever, and gradients are averaged.

The gradients equal those of one process that trains on both images in one batch, with the full head (LSTM2, norm).
"""

import pytest
import torch
from mmengine.structures import InstanceData
from mmpose.registry import HOOKS, MODELS
from mmpose.structures import PoseDataSample
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

import rnnpose_plugin  # noqa: F401 (the spawned processes have no conftest)
from rnnpose_plugin.runtime.cpu_processes import end_cpu_process

K, PEOPLE = 3, (1, 9)  # with T = 2: 1 chunk on one rank, 5 on the other
CODEC = dict(type='InstanceHeatmap', input_size=(28, 24), heatmap_size=(7, 6), sigma=1.0)


class Model(nn.Module):
    """A feature convolution and the head; its forward is the loss of images with these numbers of people."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 5, 3, padding=1)
        self.head = MODELS.build(
            dict(
                type='RecurrentPoseHead',
                in_channels=5,
                num_keypoints=K,
                decoder=CODEC,
                hidden_channels=(6, 4),
                second_lstm=dict(hidden_channels=(5,), order='inverse'),
                heatmap_loss=dict(type='HungarianHeatmapLoss', undercount='all'),
            )
        )
        self.head.first_lstm.noise = 0.0
        self.head.first_lstm.to_stop.bias.data.fill_(-9)  # sequences end after z + 1
        self.head.chunk_size = 2

    def forward(self, *people):
        images, samples = torch.zeros(len(people), 3, 6, 7), []
        for row, count in enumerate(people):
            generator = torch.Generator().manual_seed(count)
            images[row] = count + torch.rand(3, 6, 7, generator=generator)  # the ranks' statistics differ
            sample = PoseDataSample()
            joints = torch.rand(count, K, 2, generator=generator) * 5
            sample.gt_instance_labels = InstanceData(keypoint_labels=joints, keypoint_weights=torch.ones(count, K))
            samples.append(sample)
        return self.head.loss((self.features(images),), samples)['loss']


def gradients(model, *people):
    model.zero_grad()
    model(*people).backward()
    return {name.replace('module.', ''): p.grad.clone() for name, p in model.named_parameters()}


def train_on_one_rank(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    model = DistributedDataParallel(Model())
    for _ in range(2):  # the second iteration would hang if the first had left a parameter unreduced
        found = gradients(model, PEOPLE[rank])
    torch.save(dict(found, running_var=model.module.head.norm.running_var), f'{folder}/{rank}.pt')
    with pytest.raises(ValueError, match="mode='step'.*2 processes"):
        runner = type('Runner', (), dict(model=model, optim_wrapper=None))
        HOOKS.build(dict(type='ChunkedBackpropHook', mode='step')).before_train(runner)
    end_cpu_process()


def train_long(rank, folder, people):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=len(people))
    torch.set_num_threads(1)
    model = DistributedDataParallel(Model())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for step in range(200):
        optimizer.zero_grad()
        model(people[(rank + step) % len(people)]).backward()
        optimizer.step()
    torch.save(model.module.state_dict(), f'{folder}/{rank}.pt')
    end_cpu_process()


@pytest.mark.slow
@pytest.mark.parametrize('people', [(12, 1), (12, 1, 0)])
def test_200_iterations_of_12_people_beside_1(tmp_path, people):
    multiprocessing.spawn(train_long, (str(tmp_path), people), nprocs=len(people))
    first, *others = (torch.load(tmp_path / f'{rank}.pt') for rank in range(len(people)))
    for other in others:
        for name, weight in first.items():
            assert torch.equal(weight, other[name]) and weight.isfinite().all(), name


def test_ranks_with_different_numbers_of_chunks(tmp_path):
    multiprocessing.spawn(train_on_one_rank, (str(tmp_path),), nprocs=2)
    joint = Model()
    for _ in range(2):
        together = gradients(joint, *PEOPLE)
    together['running_var'] = joint.head.norm.running_var
    for rank in (0, 1):
        for name, gradient in torch.load(tmp_path / f'{rank}.pt').items():
            # float32, summed in another order
            torch.testing.assert_close(
                gradient, together[name], rtol=1e-3, atol=1e-4, msg=lambda t, n=name: f'{n}: {t}'
            )
    assert all(gradient.abs().max() > 1e-2 for gradient in together.values())
