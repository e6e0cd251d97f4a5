"""Two processes whose images need different numbers of chunks: nobody waits forever, and gradients are averaged.

They are those of one process that trains on both images in one batch.
"""

import torch
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from rnnpose_plugin.engine.chunked_backprop import backprop_in_chunks
from rnnpose_plugin.models.matched_loss import HungarianHeatmapLoss, StopLoss
from rnnpose_plugin.models.recurrent_decoder import RecurrentDecoder
from rnnpose_plugin.models.training_sequence import SequenceRules, Targets, TrainingSequence

K, PEOPLE = 3, (1, 9)  # with T = 2: 1 chunk on one rank, 5 on the other


class Model(nn.Module):
    """A feature convolution and the decoder; its forward is the loss of images with so many people."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Conv2d(3, 5, 3, padding=1)
        self.decoder = RecurrentDecoder(5, K, hidden_channels=(6, 4), noise=0.0)
        self.decoder.to_stop.bias.data.fill_(-9)

    def forward(self, *people):
        images = torch.zeros(len(people), 3, 6, 7)
        heatmaps, weights = torch.zeros(len(people), max(people), K, 6, 7), torch.zeros(len(people), max(people), K)
        for row, count in enumerate(people):
            generator = torch.Generator().manual_seed(count)
            heatmaps[row, :count] = torch.rand(count, K, 6, 7, generator=generator)
            images[row] = torch.rand(3, 6, 7, generator=generator)
            weights[row, :count] = 1
        targets = Targets(heatmaps, weights, list(people))
        losses = HungarianHeatmapLoss(undercount='all'), StopLoss()
        sequence = TrainingSequence(self.decoder, *losses, targets, SequenceRules(0.27, chunk_size=2))
        static_gates, _ = self.decoder.start(self.features(images))
        loss, _ = backprop_in_chunks(sequence.chunks, [static_gates], list(self.decoder.parameters()))
        return loss


def gradients(model, *people):
    model.zero_grad()
    model(*people).backward()
    return {name.replace('module.', ''): p.grad.clone() for name, p in model.named_parameters()}


def train_on_one_rank(rank, folder):
    distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    model = DistributedDataParallel(Model())
    for _ in range(2):  # a second iteration would hang if a parameter had been left waiting in the first
        found = gradients(model, PEOPLE[rank])
    torch.save(found, f'{folder}/{rank}.pt')
    distributed.destroy_process_group()


def test_ranks_with_different_numbers_of_chunks(tmp_path):
    multiprocessing.spawn(train_on_one_rank, (str(tmp_path),), nprocs=2)
    first, second, together = (gradients(Model(), *people) for people in (PEOPLE[:1], PEOPLE[1:], PEOPLE))
    for rank in (0, 1):
        for name, gradient in torch.load(tmp_path / f'{rank}.pt').items():
            # float32, summed in another order
            torch.testing.assert_close(gradient, (first[name] + second[name]) / 2, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(gradient, together[name], rtol=1e-4, atol=1e-5)
    assert max(gradient.abs().max() for gradient in together.values()) > 1
