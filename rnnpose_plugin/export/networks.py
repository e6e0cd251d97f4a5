"""The two halves of a model as modules that can be exported: image to features, and features to one person per step.

Letters: B images, K keypoints, C feature channels, H x W cells, D hidden channels.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from ..models.claiming_lstm import ClaimingLSTM
from ..models.conv_lstm import State
from ..models.head_views import read_test_settings
from ..models.heatmap_lstm import HeatmapLSTM
from ..models.peak_snapping import peak_maps_of, snap_located
from ..models.second_lstm import SecondLSTM, order_people

Tensors = tuple  # of tensors, a fixed number of them


class ImageEncoder(nn.Module):
    """Pixels to the features F that the decoder reads: normalisation, backbone, neck, and the head's norm.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.backbone, self.neck, self.norm = model.backbone, model.neck if model.with_neck else None, model.head.norm
        self.snaps, self.num_keypoints = read_test_settings(model.test_cfg)['snap_to_peaks'], model.head.num_keypoints
        self.register_buffer('mean', model.data_preprocessor.mean.clone())
        self.register_buffer('std', model.data_preprocessor.std.clone())

    def forward(self, image: Tensor) -> Tensors:
        """Features.

        Args:
            image (Tensor): (B, 3, h, w) in RGB, 0 to 255, uint8 or float32.

        Returns:
            tuple[Tensor, ...]: F, (B, C, H, W), and, if joints are moved to them, the backbone's peaks (B, 3 K, H, W).
        """
        levels = self.backbone((image.float() - self.mean) / self.std)
        levels = levels if self.neck is None else self.neck(levels)
        features = levels[0] if self.norm is None else self.norm(levels[0])
        return (features, peak_maps_of(levels, self.num_keypoints)) if self.snaps else (features,)


class PersonDecoder(nn.Module):
    """One person per step, as ``FirstLSTM.decode_people`` and the codec find them.

    The noise of the first passes is a constant: the numbers that torch's generator of seed 0 gives on a CPU, in their
    order. There are as many as ``max_instances`` steps take at the codec's input size. Larger images use them up
    earlier, and then they start again.

    An LSTM2 whose order is that of LSTM1 takes part in each step. Any other order, or one with ``others``, needs all
    people first, see :meth:`refine_step`.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        head, settings = model.head, read_test_settings(model.test_cfg)
        self.snaps, self.least_score = settings['snap_to_peaks'], settings['score_threshold']
        self.first_lstm, self.second_lstm, self.codec = head.first_lstm, head.second_lstm, head.decoder
        self.num_keypoints, self.max_instances = head.num_keypoints, head.max_instances
        self.stop_threshold = head.stop_threshold
        columns, rows = self.codec.heatmap_size
        count = self.max_instances * self.num_keypoints * columns * rows
        self.register_buffer('noise', torch.rand(count, generator=torch.Generator().manual_seed(0)))

    @property
    def claims(self) -> bool:
        """bool: whether LSTM1 is shown what was claimed so far: one more state, behind those of its layers."""
        return isinstance(self.first_lstm, ClaimingLSTM)

    @property
    def refines_each_step(self) -> bool:
        """bool: whether an LSTM2 takes part in each step."""
        return self.second_lstm is not None and self.second_lstm.order == 'learned' and not self.second_lstm.others

    @property
    def refines_afterwards(self) -> bool:
        """bool: whether an LSTM2 has to wait for all people."""
        return self.second_lstm is not None and not self.refines_each_step

    def start(self, features: Tensor) -> tuple[Tensors, Tensors]:
        """What is computed once per image, and the empty state.

        Args:
            features (Tensor): F, (B, C, H, W).

        Returns:
            tuple[tuple[Tensor, ...], tuple[Tensor, ...]]: static maps of LSTM1 and, if it takes part in each step,
            LSTM2, and h and c of each of their layers in turn, each (B, D, H / stride, W / stride); behind those of
            LSTM1 the claimed maps (B, K, H, W) if there are any.
        """
        lstms = [self.first_lstm, self.second_lstm] if self.refines_each_step else [self.first_lstm]
        started = [lstm.start(features) for lstm in lstms]
        return tuple(maps for maps, _ in started), _in_a_row(pair for _, states in started for pair in states)

    def step(self, number: Tensor, maps: Tensors, states: Tensors) -> tuple[Tensor, Tensor, Tensors]:
        """One person.

        Args:
            number (Tensor): () int64, of the step, from 0.
            maps (tuple[Tensor, ...]): from :meth:`start`.
            states (tuple[Tensor, ...]): from :meth:`start` or the step before.

        Returns:
            tuple[Tensor, Tensor, tuple[Tensor, ...]]: heatmaps (B, K, H, W), stop probabilities (B,), the new states.
        """
        size = 2 * len(self.first_lstm.lstm.layers) + self.claims
        noise = self._noise_of(self.first_lstm, number, maps[0])
        heatmaps, logits, new_states = self.first_lstm.step(maps[0], _paired(states[:size]), noise)
        if self.refines_each_step:
            noise = self._noise_of(self.second_lstm, number, maps[1])
            heatmaps, refined_states = self.second_lstm.run_passes(maps[1], _paired(states[size:]), noise, heatmaps)
            new_states = [*new_states, *refined_states]
        return heatmaps, logits.float().sigmoid(), _in_a_row(new_states)

    def locate(self, heatmaps: Tensor, probabilities: Tensor, peaks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The pose of each image's person, as the head decodes it.

        Args:
            heatmaps (Tensor): (B, K, H, W).
            probabilities (Tensor): (B,), stop probabilities.
            peaks (Tensor, optional): (B, 3 K, H, W), from the encoder. Defaults to None, for a head without them.

        Returns:
            tuple[Tensor, Tensor]: keypoints (B, K, 3) in pixels of the image, and instance scores (B,), 0 for a person
            without a kept joint or below the head's ``score_threshold``.
        """
        keypoints, scores = self.codec.locate(heatmaps.float(), probabilities)
        if self.snaps:
            stride = self.codec.stride
            keypoints, scores = snap_located(keypoints, scores, heatmaps, probabilities, peaks, stride)
        return keypoints, torch.where(scores < self.least_score, 0.0, scores)

    def order(self, heatmaps: Tensor, probabilities: Tensor, present: Tensor) -> Tensor:
        """The order in which LSTM2 takes the people.

        Args:
            heatmaps (Tensor): (B, T, K, H, W), of LSTM1.
            probabilities (Tensor): (B, T).
            present (Tensor): (B, T) bool.

        Returns:
            Tensor: (B, T) int64, see :func:`order_people`.
        """
        order = self.second_lstm.order
        if order == 'random':  # the generator's first numbers as keys
            order, probabilities = 'confidence', -self.noise[: present.shape[1]].expand(present.shape)
        return order_people(order, heatmaps, probabilities, present)

    def refine_step(self, number: Tensor, maps: Tensor, states: Tensors, given: Tensor) -> tuple[Tensor, Tensors]:
        """One person through an LSTM2 that waited for all people.

        Args:
            number (Tensor): () int64, the place in the order, from 0.
            maps (Tensor): static maps of LSTM2.
            states (tuple[Tensor, ...]): h and c of each layer in turn.
            given (Tensor): (B, K or 2 K, H, W), from :meth:`SecondLSTM.inputs`.

        Returns:
            tuple[Tensor, tuple[Tensor, ...]]: heatmaps (B, K, H, W), the new states.
        """
        noise = self._noise_of(self.second_lstm, number, maps)
        heatmaps, new_states = self.second_lstm.run_passes(maps, _paired(states), noise, given)
        return heatmaps, _in_a_row(new_states)

    def _noise_of(self, lstm: HeatmapLSTM | SecondLSTM, number: Tensor, maps: Tensor) -> Tensor:
        """``draw_noise`` of a step, the same for every image."""
        batch, _, height, width = maps.shape
        size = self.num_keypoints * height * width
        places = (number * size + torch.arange(size, device=maps.device)) % len(self.noise)
        noise = lstm.noise * self.noise[places]
        return noise.reshape(1, self.num_keypoints, height, width).expand(batch, -1, -1, -1)


def _in_a_row(states: Iterable[State]) -> Tensors:
    """Without the empty partner of the claimed maps, which no runtime wants."""
    return tuple(part for pair in states for part in pair if part.shape[1])


def _paired(states: Tensors) -> list[State]:
    """The claimed maps, last of an odd number, get their empty partner back."""
    return list(zip(states[::2], (*states[1::2], states[-1][:, :0])))


def keep_poses(keypoints: Tensor, scores: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moves the people of each image to the front; those without a kept joint (score 0) are no poses.

    Plain comparisons and sums, since some runtimes lack sorting and scattering.

    Args:
        keypoints (Tensor): (B, T, K, 3).
        scores (Tensor): (B, T).
        present (Tensor): (B, T) bool, steps that are people.

    Returns:
        tuple[Tensor, Tensor, Tensor]: keypoints and scores, zeros behind the last person, and the number of people (B,)
        int64.
    """
    kept = present & (scores > 0)
    place = kept.long().cumsum(dim=1) - 1
    moved = kept[:, None] & (place[:, None] == torch.arange(kept.shape[1], device=kept.device)[:, None])  # B, to, from
    keypoints = torch.where(moved[..., None, None], keypoints[:, None], 0.0).sum(dim=2)
    return keypoints, torch.where(moved, scores[:, None], 0.0).sum(dim=2), kept.sum(dim=1)
