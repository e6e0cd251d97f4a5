"""The whole pose path as one graph without a loop, for runtimes that have none."""

from __future__ import annotations

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..models.second_lstm import rearrange
from .networks import ImageEncoder, PersonDecoder, keep_poses


class UnrolledPose(nn.Module):
    """Image to poses in a fixed number of steps. Those after an image's last person are computed and left out.

    Letters: B images, N steps, K keypoints, H x W cells.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.
        steps (int): N, at least 1 and at most the head's ``max_instances``.

    Raises:
        ValueError: for another number of steps.
    """

    def __init__(self, model: BaseModel, steps: int) -> None:
        super().__init__()
        most = model.head.max_instances
        if not 1 <= steps <= most:
            raise ValueError(f'--steps {steps}: use 1 to {most}, the max_instances of the head.')
        self.encoder, self.decoder = ImageEncoder(model), PersonDecoder(model)
        self.steps = steps

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Poses.

        Args:
            image (Tensor): (B, 3, h, w) in RGB, 0 to 255, uint8 or float32.

        Returns:
            tuple[Tensor, Tensor, Tensor]: keypoints (B, N, K, 3) in pixels of the image, scores (B, N), both 0 behind
            an image's last person, and the number of people (B,) int64.
        """
        decoder = self.decoder
        features, *peaks = self.encoder(image)
        maps, states = decoder.start(features)
        found, probabilities = [], []
        for number in range(self.steps):
            heatmaps, probability, states = decoder.step(torch.tensor(number), maps, states)
            found.append(heatmaps)
            probabilities.append(probability)
        stops = torch.stack(probabilities, dim=1)
        present = (stops < decoder.stop_threshold).long().cumsum(dim=1) == 0
        if decoder.refines_afterwards:
            found, stops = self._refine(features, torch.stack(found, dim=1), stops, present)
        located = [decoder.locate(maps, stops[:, n], *peaks) for n, maps in enumerate(found)]
        keypoints, scores = (torch.stack(parts, dim=1) for parts in zip(*located))
        return keep_poses(keypoints, scores, present)

    def _refine(
        self, features: Tensor, heatmaps: Tensor, stops: Tensor, present: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        """LSTM2's heatmaps and LSTM1's stop probabilities, in LSTM2's order."""
        order = self.decoder.order(heatmaps, stops, present)
        shown = rearrange(self.decoder.second_lstm.inputs(heatmaps, present)[0], order)
        maps, states = self.decoder.second_lstm.start(features)
        states = tuple(part for pair in states for part in pair)
        refined = []
        for number in range(self.steps):
            given, place = shown[:, number], torch.tensor(number)
            maps_of_person, states = self.decoder.refine_step(place, maps, states, given)
            refined.append(maps_of_person)
        return refined, stops.gather(1, order)
