"""The whole pose path as one graph with a loop in it."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..models.second_lstm import rearrange
from .networks import ImageEncoder, PersonDecoder, Tensors, keep_poses


class WholePose(nn.Module):
    """Image to poses; the loop runs while any image of the batch has not stopped and below ``max_instances`` steps.

    Letters: B images, T steps, K keypoints, H x W cells.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.encoder, self.decoder = ImageEncoder(model), PersonDecoder(model)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Poses.

        Args:
            image (Tensor): (B, 3, h, w) in RGB, 0 to 255, uint8 or float32.

        Returns:
            tuple[Tensor, Tensor, Tensor]: keypoints (B, T, K, 3) in pixels of the image, scores (B, T), both 0 behind
            an image's last person, and the number of people (B,) int64. T is the most people of an image.
        """
        encoded = self.encoder(image)
        if self.decoder.refines_afterwards:
            keypoints, scores, present = self._two_loops(*encoded)
        else:
            keypoints, scores, present = self._one_loop(*encoded)
        keypoints, scores, counts = keep_poses(keypoints, scores, present)
        most = counts.max().item()
        torch._check(most >= 0)
        torch._check(most <= self.decoder.max_instances)
        return keypoints[:, :most], scores[:, :most], counts

    def _one_loop(self, features: Tensor, *peaks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Keypoints (B, max_instances, K, 3), scores and which of them are there (B, max_instances)."""
        decoder, most = self.decoder, self.decoder.max_instances
        maps, states = decoder.start(features)

        def body(number: Tensor, running: Tensor, count: Tensor, *carried: Tensor) -> Tensors:
            keypoints, scores, *states = carried
            heatmaps, probabilities, states = decoder.step(number, maps, tuple(states))
            running = running & (probabilities >= decoder.stop_threshold)
            located, score = decoder.locate(heatmaps, probabilities, *peaks)
            keypoints, scores = _write(keypoints, number, located), _write(scores, number, score)
            return (number + 1, running, count + running, keypoints, scores, *states)

        keypoints = features.new_zeros(features.shape[0], most, decoder.num_keypoints, 3)
        scores = features.new_zeros(features.shape[0], most)
        count, keypoints, scores = self._loop(body, features, (keypoints, scores, *states))[:3]
        return keypoints, scores, torch.arange(most, device=count.device) < count[:, None]

    def _two_loops(self, features: Tensor, *peaks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """LSTM1 finds all people, then LSTM2 takes them in its order. As :meth:`_one_loop`."""
        decoder, most = self.decoder, self.decoder.max_instances
        maps, states = decoder.start(features)

        def find(number: Tensor, running: Tensor, count: Tensor, *carried: Tensor) -> Tensors:
            heatmaps, probabilities, *states = carried
            found, probability, states = decoder.step(number, maps, tuple(states))
            running = running & (probability >= decoder.stop_threshold)
            heatmaps, probabilities = _write(heatmaps, number, found), _write(probabilities, number, probability)
            return (number + 1, running, count + running, heatmaps, probabilities, *states)

        batch, _, height, width = features.shape
        heatmaps = features.new_zeros(batch, most, decoder.num_keypoints, height, width)
        probabilities = features.new_zeros(batch, most)
        count, heatmaps, probabilities = self._loop(find, features, (heatmaps, probabilities, *states))[:3]
        present = torch.arange(most, device=count.device) < count[:, None]
        keypoints, scores = self._refine(features, heatmaps, probabilities, present, *peaks)
        return keypoints, scores, present

    def _refine(
        self, features: Tensor, heatmaps: Tensor, probabilities: Tensor, present: Tensor, *peaks: Tensor
    ) -> tuple[Tensor, Tensor]:
        decoder = self.decoder
        order = decoder.order(heatmaps, probabilities, present)
        counts = present.sum(dim=1)
        inputs, _ = decoder.second_lstm.inputs(heatmaps, present)
        maps, states = decoder.second_lstm.start(features)

        def body(number: Tensor, running: Tensor, count: Tensor, *carried: Tensor) -> Tensors:
            keypoints, scores, *states = carried
            step = order.gather(1, number.expand(order.shape[0], 1))
            given = rearrange(inputs, step).squeeze(1)
            refined, states = decoder.refine_step(number, maps, tuple(states), given)
            located, score = decoder.locate(refined, probabilities.gather(1, step).squeeze(1), *peaks)
            keypoints, scores = _write(keypoints, number, located), _write(scores, number, score)
            return (number + 1, counts > number + 1, count + 1, keypoints, scores, *states)

        keypoints = features.new_zeros(*present.shape, decoder.num_keypoints, 3)
        states = tuple(part for pair in states for part in pair)
        scores = torch.zeros_like(probabilities)
        return self._loop(body, features, (keypoints, scores, *states))[1:3]

    def _loop(self, body: object, features: Tensor, carried: Tensors) -> Tensors:
        """What the body carries, after the last step and without the number of steps and who is running."""
        most = self.decoder.max_instances

        def going_on(number: Tensor, running: Tensor, *others: Tensor) -> Tensor:
            return running.any() & (number < most)

        number = torch.zeros((), dtype=torch.int64, device=features.device)
        running = torch.ones(features.shape[0], dtype=torch.bool, device=features.device)
        count = torch.zeros(features.shape[0], dtype=torch.int64, device=features.device)
        return torch.while_loop(going_on, body, (number, running, count, *carried))[2:]


def _write(table: Tensor, number: Tensor, row: Tensor) -> Tensor:
    """The table (B, T, ...) with another row (B, ...) at one step."""
    here = torch.arange(table.shape[1], device=table.device) == number
    return torch.where(here.reshape(1, -1, *[1] * (row.dim() - 1)), row[:, None], table)
