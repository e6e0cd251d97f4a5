"""The losses of equations 1 to 4. Letters: B images, T steps of a chunk, N true people, K keypoints, H x W cells."""

from __future__ import annotations

import torch
from mmpose.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from .matching import assign, heatmap_distances

UNDERCOUNT = {'confident': 'a', 'all': 'b'}
OVERCOUNT = {'first': "a'", 'all': "b'"}
UNLABELLED = ('zero', 'ignore')
REDUCTIONS = ('sum', 'keypoint_mean')
Pairs = tuple  # image, true person and step of each pair, three int64 tensors


def _one_of(name: str, value: str, options: tuple[str, ...] | dict) -> str:
    if value not in options:
        raise ValueError(f'{name} is {value!r}; use one of {tuple(options)}.')
    return value


@MODELS.register_module()
class HungarianHeatmapLoss(nn.Module):
    """Equations 2 and 4: squared l2 between each predicted person's heatmaps and those of the true person matched.

    Which steps are matched at all is table 4 (z true people, z^ predicted):

    - too few predicted: ``undercount='confident'`` (a) takes the first z steps whose p >= omega, ``'all'`` (b) all z;
    - too many: ``overcount='first'`` (a') takes the first z of the z^ steps, ``'all'`` (b') all z^. With chunks a
      surplus step competes only with those of its own chunk: people assigned earlier are no longer free
      (Algorithm 1, line 17).

    Args:
        undercount (str): ``'confident'`` or ``'all'``. Defaults to ``'confident'``.
        overcount (str): ``'first'`` or ``'all'``. Defaults to ``'first'``.
        unlabelled (str): the target of a joint of weight 0 of a matched person: ``'zero'``, an empty map, or
            ``'ignore'``, none (neither in the loss nor in the matching). The paper is silent; AE trains zeros, and
            tau then discards the joint. Defaults to ``'zero'``.
        reduction (str): ``'sum'`` over people, joints and cells, which is equation 2, or ``'keypoint_mean'``, that
            divided by K, which weighs heatmaps and stop more evenly. Defaults to ``'sum'``.
        loss_weight (float): factor on the loss. Defaults to 1, as in section 3.2.
        foreground_weight (float): w >= 0; a cell whose target is y counts 1 + w y times. Not the paper's: nearly all
            cells of a person's maps are empty, so that a new network first learns empty maps, and stays there
            long. The matching uses the plain distances. Defaults to 0.

    Raises:
        ValueError: for an unknown option or a negative weight.
    """

    def __init__(
        self,
        undercount: str = 'confident',
        overcount: str = 'first',
        unlabelled: str = 'zero',
        reduction: str = 'sum',
        loss_weight: float = 1.0,
        foreground_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not foreground_weight >= 0:
            raise ValueError(f'foreground_weight is {foreground_weight}; use 0 (equation 2) or more.')
        self.undercount = _one_of('undercount', undercount, UNDERCOUNT)
        self.overcount = _one_of('overcount', overcount, OVERCOUNT)
        self.unlabelled = _one_of('unlabelled', unlabelled, UNLABELLED)
        self.reduction = _one_of('reduction', reduction, REDUCTIONS)
        self.loss_weight = loss_weight
        self.foreground_weight = foreground_weight

    def candidates(self, is_person: Tensor, confident: Tensor, not_stopped: Tensor) -> Tensor:
        """The steps that are matched (table 4).

        Args:
            is_person (Tensor): (B,) bool, the step is one of the image's first z: t <= z.
            confident (Tensor): (B,) bool, p_t >= omega at this step.
            not_stopped (Tensor): (B,) bool, p >= omega at this and every earlier step: t <= z^.

        Returns:
            Tensor: (B,) bool.
        """
        counted = is_person | not_stopped if self.overcount == 'all' else is_person
        return counted & confident if self.undercount == 'confident' else counted

    def match(
        self,
        predicted: Tensor,
        target: Tensor,
        keypoint_weights: Tensor,
        free: Tensor,
        candidates: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[Pairs, Tensor]:
        """The assignment S between a chunk's steps and the people who are still free.

        Args:
            predicted (Tensor): (B, T, K, H, W).
            target (Tensor): (B, N, K, H, W), all zero where ``keypoint_weights`` is 0.
            keypoint_weights (Tensor): (B, N, K), 0 for joints that are unlabelled or outside the image.
            free (Tensor): (B, N) bool, people there and not assigned in an earlier chunk.
            candidates (Tensor): (B, T) bool, from :meth:`candidates`.
            mask (Tensor, optional): (B, H, W), 0 in crowd regions and on people without joints; such cells are
                ignored.

        Returns:
            tuple[tuple[Tensor, Tensor, Tensor], Tensor]: image, person and step of each pair; and ``free`` less the
            people assigned now (Algorithm 1, line 17).
        """
        weights = keypoint_weights if self.unlabelled == 'ignore' else None
        pairs = assign(heatmap_distances(predicted, target, mask, weights), free, candidates)
        free = free.clone()
        free[pairs[0], pairs[1]] = False
        return pairs, free

    def forward(
        self, predicted: Tensor, target: Tensor, keypoint_weights: Tensor, pairs: Pairs, mask: Tensor | None = None
    ) -> Tensor:
        """Supervise the matched pairs.

        Args:
            predicted (Tensor): (B, T, K, H, W).
            target (Tensor): (B, N, K, H, W), as in :meth:`match`.
            keypoint_weights (Tensor): (B, N, K).
            pairs (tuple[Tensor, Tensor, Tensor]): image, person and step of each pair, from :meth:`match`.
            mask (Tensor, optional): (B, H, W), as in :meth:`match`.

        Returns:
            Tensor: a scalar, the sum over the batch.
        """
        image, person, step = pairs
        true = target[image, person]
        squared = (predicted[image, step].float() - true).square()
        if self.foreground_weight:
            squared = squared * (1 + self.foreground_weight * true)
        if mask is not None:
            squared = squared * mask[image][:, None]
        if self.unlabelled == 'ignore':
            squared = squared * keypoint_weights[image, person][..., None, None]
        divisor = predicted.shape[2] if self.reduction == 'keypoint_mean' else 1
        return self.loss_weight * squared.sum() / divisor


@MODELS.register_module()
class StopLoss(nn.Module):
    """Equation 3: binary cross entropy of the stop probabilities against the vector p of equation 1.

    Equation 3 is printed without its minus sign; a loss needs it.

    Args:
        loss_weight (float): factor on the loss. Defaults to 1, as in section 3.2.
    """

    def __init__(self, loss_weight: float = 1.0) -> None:
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, is_person: Tensor, running: Tensor) -> Tensor:
        """Summed over the batch and the steps that count.

        Args:
            logits (Tensor): (B, T).
            is_person (Tensor): (B, T) bool, the vector p: true at the first z steps.
            running (Tensor): (B, T) bool, true while t <= |p| = max(z^, z) + 1.

        Returns:
            Tensor: a scalar.
        """
        entropy = F.binary_cross_entropy_with_logits(logits.float(), is_person.float(), reduction='none')
        return self.loss_weight * torch.where(running, entropy, 0.0).sum()
