"""Plain torch: a second branch in training whose steps are given a noised person to reproduce. Ours, not the paper's.

In the paper's losses the person that a step is supervised by is found afterwards, by matching, so a blend of two people
is pulled towards the nearer one at most. Here a step's first pass gets noised maps of one true person, who is then its
target without matching, as the noised queries of DN-DETR (Li et al., CVPR 2022) and, with negatives, of DINO (Zhang et
al., ICLR 2023).

Letters: B images, of which M take part, N people, K keypoints, H x W cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .claiming_lstm import ClaimingLSTM
from .first_lstm import FirstLSTM
from .training_sequence import Targets

MEAN_SIGMA = 0.067  # of COCO's 17
PARTS = ('denoising_heatmap', 'denoising_stop')


@dataclass
class NoisedPeople:
    """What the branch gives the decoder and asks of it.

    Args:
        keypoints (Tensor): (M, K, 2), in cells.
        shown (Tensor): (M, K) bool; the maps of the others are empty.
        person (Tensor): (M,) int64, the true person of each image.
        is_person (Tensor): (M,) bool, false where empty maps and p = 0 are the target.
        claimed (Tensor): (M, N) bool, the people who count as claimed.
    """

    keypoints: Tensor
    shown: Tensor
    person: Tensor
    is_person: Tensor
    claimed: Tensor


class Denoising:
    """One step from the empty hidden state, given one true person's noised maps, for a share of the images.

    Noise: a joint is moved by a normal distance whose deviation on each axis is ``shift`` times 2 sigma s, so that its
    OKS is 1 / (1 + shift^2) on average; some joints are left out; some are the same joint of the nearest other person,
    who is the overlapping one if any overlaps. Where less would be left of the person than comes from the other,
    joints are only moved. The uniform noise of an ordinary first pass is added.

    Negatives ask for empty maps and p = 0. One is a mixture: of the joints that the two people share a random half
    comes from either. The other, with :class:`ClaimingLSTM` alone, is a person in the claimed maps; there any number of
    the other people is claimed in every image, so that claimed maps alone do not tell a negative.

    Args:
        render (Callable): joints (..., K, 2) in cells and weights (..., K) to maps (..., K, H, W), as
            ``InstanceHeatmap.render``.
        num_keypoints (int): K.
        share (float): probability that an image with people takes part, in [0, 1]. Defaults to 1.
        shift (float): >= 0, see above. Defaults to 1.
        drop (float): probability that a joint is left out, >= 0. Defaults to 0.1.
        swap (float): probability that a joint is the other person's, >= 0; drop + 2 swap < 1. Defaults to 0.2.
        negative (float): probability of a negative where one is possible, in [0, 1]. Defaults to 0.25.
        loss_weight (float): factor on both losses, >= 0. Defaults to 1.
        sigmas (Sequence[float], optional): K, of the OKS. Defaults to None, the mean of COCO's for all.

    Raises:
        ValueError: for a setting out of its range.
    """

    def __init__(
        self,
        render: Callable[[Tensor, Tensor], Tensor],
        num_keypoints: int,
        share: float = 1.0,
        shift: float = 1.0,
        drop: float = 0.1,
        swap: float = 0.2,
        negative: float = 0.25,
        loss_weight: float = 1.0,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        for name, value in dict(share=share, drop=drop, swap=swap, negative=negative).items():
            if not _is_number(value) or not 0 <= value <= 1:
                raise ValueError(f'denoising.{name} is {value!r}; it is a probability in [0, 1].')
        for name, value in dict(shift=shift, loss_weight=loss_weight).items():
            if not _is_number(value) or not 0 <= value < float('inf'):
                raise ValueError(f'denoising.{name} is {value!r}; use 0 or more.')
        if drop + 2 * swap >= 1:
            raise ValueError(
                f'denoising.drop is {drop} and denoising.swap {swap}; drop + 2 * swap must be less than 1, so that '
                "most joints are the person's own."
            )
        sigmas = [MEAN_SIGMA] * num_keypoints if sigmas is None else list(sigmas)
        if len(sigmas) != num_keypoints or not all(_is_number(sigma) and sigma > 0 for sigma in sigmas):
            raise ValueError(f'denoising.sigmas is {sigmas}; give {num_keypoints} positive numbers, one per keypoint.')
        self.render, self.sigmas = render, torch.tensor(sigmas, dtype=torch.float32)
        self.share, self.shift, self.drop, self.swap = share, shift, drop, swap
        self.negative, self.loss_weight = negative, loss_weight

    def losses(
        self,
        first_lstm: FirstLSTM,
        heatmap_loss: nn.Module,
        stop_loss: nn.Module,
        targets: Targets,
        static_maps: Tensor,
    ) -> dict[str, Tensor]:
        """Run the branch. The host draws the images that take part; nothing waits for the device.

        Args:
            first_lstm (FirstLSTM): LSTM1, with a feedback loop.
            heatmap_loss (nn.Module): called like ``HungarianHeatmapLoss``.
            stop_loss (nn.Module): called like ``StopLoss``.
            targets (Targets): of the batch, with ``keypoints``.
            static_maps (Tensor): (B, ..., H, W), LSTM1's.

        Returns:
            dict[str, Tensor]: scalars ``denoising_heatmap`` and ``denoising_stop``, averages over the batch.
        """
        draws = torch.rand(len(targets.counts)).tolist()
        images = [image for image, z in enumerate(targets.counts) if z and draws[image] < self.share]
        if not images:
            return {name: torch.zeros((), device=static_maps.device) for name in PARTS}
        counts = _to_device([targets.counts[image] for image in images], static_maps.device)
        images = _to_device(images, static_maps.device)
        joints, weights = targets.keypoints[images], targets.keypoint_weights[images]
        people = self.draw(joints, weights, counts, isinstance(first_lstm, ClaimingLSTM))
        static_maps = static_maps[images]
        states = first_lstm.initial_state(static_maps)
        if isinstance(first_lstm, ClaimingLSTM):
            claimed, empty = states[-1]
            shown = targets.heatmaps[images] * people.claimed[..., None, None, None]
            states[-1] = shown.amax(dim=1).to(claimed), empty
        noise = first_lstm.draw_noise(len(images), *static_maps.shape[-2:])
        first = noise + self.render(people.keypoints, people.shown).to(noise)
        heatmaps, logits, _ = first_lstm.step(static_maps, states, first)
        return self._supervise(heatmap_loss, stop_loss, heatmaps, logits, targets, images, people)

    def _supervise(
        self, heatmap_loss: nn.Module, stop_loss: nn.Module, heatmaps: Tensor, logits: Tensor,
        targets: Targets, images: Tensor, people: NoisedPeople,
    ) -> dict[str, Tensor]:  # fmt: skip
        """The two losses with each image's only step and only true person as the pair."""
        is_person = people.is_person[:, None]
        true = targets.heatmaps[images, people.person] * is_person[..., None, None]
        # Every map of a negative is supervised.
        weights = torch.where(is_person, targets.keypoint_weights[images, people.person], 1)
        pairs = torch.arange(len(images), device=images.device), torch.zeros_like(images), torch.zeros_like(images)
        mask = None if targets.mask is None else targets.mask[images]
        heatmap = heatmap_loss(heatmaps[:, None], true[:, None], weights[:, None], pairs, mask)
        stop = stop_loss(logits[:, None], is_person, torch.ones_like(is_person))
        return {name: self.loss_weight * loss / len(targets.counts) for name, loss in zip(PARTS, (heatmap, stop))}

    def draw(self, keypoints: Tensor, weights: Tensor, counts: Tensor, claiming: bool) -> NoisedPeople:
        """Choose a person of each image, and noise.

        Args:
            keypoints (Tensor): (M, N, K, 2), in cells.
            weights (Tensor): (M, N, K), 0 for joints without a label.
            counts (Tensor): (M,) int64, people of each image, >= 1.
            claiming (bool): the decoder is given claimed maps.

        Returns:
            NoisedPeople: one of each image.
        """
        M, N, K = weights.shape
        device, rows = weights.device, torch.arange(M, device=weights.device)
        present = torch.arange(N, device=device) < counts[:, None]
        labelled = (weights > 0) & present[..., None]
        person = torch.rand(M, N, device=device).masked_fill(~present, -1).argmax(dim=1)
        other = nearest_person(keypoints, labelled, person)
        # Without another person ``other`` is the person itself, who has then no joint to give.
        own, others = labelled[rows, person], labelled[rows, other] & (other != person)[:, None]
        negative, may_mix = torch.rand(M, device=device) < self.negative, (own & others).sum(dim=1) >= 2
        mixed = negative & may_mix & (torch.rand(M, device=device) < (0.5 if claiming else 1))
        claimed_already = negative & ~mixed if claiming else torch.zeros_like(mixed)
        noised, shown = self.noised(
            (keypoints[rows, person], own), (keypoints[rows, other], others), mixed,
            torch.rand(M, K, device=device), torch.randn(M, K, 2, device=device),
        )  # fmt: skip
        # As many as may be claimed at a step of a sequence: any number, all equally likely.
        claimed = present & (torch.rand(M, N, device=device) < torch.rand(M, 1, device=device))
        claimed[rows, other] = claimed[rows, other] & ~mixed
        claimed[rows, person] = claimed_already
        return NoisedPeople(noised, shown, person, ~(mixed | claimed_already), claimed)

    def noised(
        self, own: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], mixed: Tensor, uniform: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Noise on one person of each image.

        Args:
            own (tuple[Tensor, Tensor]): the person's joints (M, K, 2) in cells, and which are labelled (M, K), bool.
            other (tuple[Tensor, Tensor]): likewise of the one whose joints are mixed in.
            mixed (Tensor): (M,) bool, half and half.
            uniform (Tensor): (M, K) in [0, 1), decides between the people and what is left out.
            normal (Tensor): (M, K, 2), standard normal, the shift.

        Returns:
            tuple[Tensor, Tensor]: joints (M, K, 2) in cells, and which are shown (M, K), bool.
        """
        (joints, labelled), (other_joints, other_labelled) = own, other
        swapped, dropped = (uniform < self.swap) & other_labelled, uniform >= 1 - self.drop
        left = (labelled & ~swapped & ~dropped).sum(dim=1, keepdim=True)
        enough = left > swapped.sum(dim=1, keepdim=True)
        swapped, dropped = swapped & enough, dropped & enough
        shared = labelled & other_labelled
        place = uniform.masked_fill(~shared, 2).argsort(dim=1).argsort(dim=1)
        half = place < shared.sum(dim=1, keepdim=True) // 2
        shown = torch.where(mixed[:, None], shared, (labelled | swapped) & ~dropped)
        swapped = torch.where(mixed[:, None], half, swapped)
        deviation = self.shift * 2 * self.sigmas.to(joints.device, non_blocking=True) * person_size(joints, labelled)
        return torch.where(swapped[..., None], other_joints, joints) + deviation[..., None] * normal, shown


def _is_number(value: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _to_device(numbers: list[int], device: torch.device) -> Tensor:
    return torch.tensor(numbers).to(device, non_blocking=True)


def person_size(joints: Tensor, labelled: Tensor) -> Tensor:
    """s of the OKS: the mean side of the box around the labelled joints, as the targets have no areas.

    Args:
        joints (Tensor): (M, K, 2), in cells.
        labelled (Tensor): (M, K) bool.

    Returns:
        Tensor: (M, 1), in cells, at least 1.
    """
    hidden = ~labelled[..., None]
    sides = joints.masked_fill(hidden, -torch.inf).amax(dim=1) - joints.masked_fill(hidden, torch.inf).amin(dim=1)
    return sides.mean(dim=1, keepdim=True).clamp(min=1)


def nearest_person(keypoints: Tensor, labelled: Tensor, person: Tensor) -> Tensor:
    """The other person at the least mean distance over the joints that are labelled in both.

    Args:
        keypoints (Tensor): (M, N, K, 2), in cells.
        labelled (Tensor): (M, N, K) bool.
        person (Tensor): (M,) int64.

    Returns:
        Tensor: (M,) int64; ``person`` itself where no other one shares a joint.
    """
    rows = torch.arange(len(person), device=person.device)
    shared = labelled & labelled[rows, person][:, None]
    distances = torch.linalg.vector_norm(keypoints - keypoints[rows, person][:, None], dim=-1)
    mean = (distances * shared).sum(dim=-1) / shared.sum(dim=-1)  # NaN without a shared joint
    # The person itself comes before those without a shared joint and after all others.
    mean = mean.nan_to_num(nan=torch.inf).scatter(1, person[:, None], torch.finfo(mean.dtype).max)
    return mean.argmin(dim=1)
