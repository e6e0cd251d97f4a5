"""Plain torch: the training algorithm (Algorithm 1), chunk by chunk. It does not depend on MMPose or on optimizers.

Letters: B images, T steps of a chunk, N true people, K keypoints, H x W cells; z and z^ as in equation 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .conv_lstm import State
from .first_lstm import FirstLSTM
from .second_lstm import SecondLSTM


@dataclass
class Targets:
    """The targets of a batch of images.

    Args:
        heatmaps (Tensor): (B, N, K, H, W), people beyond an image's count all zero.
        keypoint_weights (Tensor): (B, N, K).
        counts (list[int]): z of each image; on the host, so that the length is known without a device sync.
        mask (Tensor, optional): (B, H, W), 0 where nothing is annotated.
        keypoints (Tensor, optional): (B, N, K, 2), in cells; needed for denoising. Defaults to None.
    """

    heatmaps: Tensor
    keypoint_weights: Tensor
    counts: list[int]
    mask: Tensor | None = None
    keypoints: Tensor | None = None


@dataclass
class SequenceRules:
    """How long a training sequence may get and how it is cut.

    Args:
        stop_threshold (float): omega, in (0, 1).
        chunk_size (int, optional): T, people per backpropagation; None is the whole sequence at once.
        max_steps (int): a sequence ends here at the latest (Algorithm 1, line 1). A larger image is trained
            on as many of its people, whichever its steps show, and no step of it is the last.
        max_surplus (int, optional): a sequence ends so many steps after step z + 1, whatever the network says. None,
            the paper's way, lets a network that has not learned to stop run to ``max_steps`` on every image.
        first_lstm_loss (bool): False leaves equation 2 out and matches by LSTM2's heatmaps, as LSTM1's then mean
            nothing by themselves ("a single loss on LSTM2 only", section 4.1). Defaults to True.
    """

    stop_threshold: float
    chunk_size: int | None = None
    max_steps: int = 30
    max_surplus: int | None = None
    first_lstm_loss: bool = True


class TrainingSequence:
    """Runs LSTM1 and LSTM2 over a batch and yields the loss of one chunk after the other.

    Every image of the batch keeps its own length |p| = max(z^, z) + 1 and its own matching; images that are finished
    step along and are masked out. Between chunks the hidden state is kept but detached (section 3.2.1).

    Departure: a chunk ends after T people or with the sequence. Line 10 of Algorithm 1 also ends one at every step with
    p < omega, which in the middle of a sequence (z^ < z) would cut gradients after single steps, at different steps in
    the images of a batch, and would need a device sync at every step.

    Args:
        first_lstm (FirstLSTM): LSTM1.
        heatmap_loss (nn.Module): called like ``HungarianHeatmapLoss``.
        stop_loss (nn.Module): called like ``StopLoss``.
        targets (Targets): of the batch.
        rules (SequenceRules): lengths and chunks.
        second_lstm (SecondLSTM, optional): LSTM2. Defaults to None.
        denoising (Callable, optional): ``Denoising.losses``, called once per batch; its parts are added to the first
            chunk's. Defaults to None.
    """

    def __init__(
        self,
        first_lstm: FirstLSTM,
        heatmap_loss: nn.Module,
        stop_loss: nn.Module,
        targets: Targets,
        rules: SequenceRules,
        second_lstm: SecondLSTM | None = None,
        denoising: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        self.first_lstm = first_lstm
        self.heatmap_loss = heatmap_loss
        self.stop_loss = stop_loss
        self.targets = targets
        self.rules = rules
        self.second_lstm = second_lstm
        self.denoising = denoising
        self.steps_done, self.done = 0, False

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that the chunks train.

        Returns:
            list[nn.Parameter]: LSTM1's, then LSTM2's.
        """
        return [*self.first_lstm.parameters(), *(self.second_lstm.parameters() if self.second_lstm else [])]

    def static_maps(self, features: Tensor) -> list[Tensor]:
        """Computed once per image, see :meth:`HeatmapLSTM.static_maps`.

        Args:
            features (Tensor): (B, C, H, W).

        Returns:
            list[Tensor]: LSTM1's and, if there is one, LSTM2's.
        """
        return [part.static_maps(features) for part in (self.first_lstm, self.second_lstm) if part]

    def chunks(self, *static_maps: Tensor) -> Iterator[dict[str, Tensor]]:
        """Algorithm 1, lines 1 to 19, but for the optimizer. ``done`` is true after the last chunk.

        Args:
            *static_maps (Tensor): from :meth:`static_maps`.

        Yields:
            dict[str, Tensor]: scalars ``heatmap``, ``stop``, with LSTM2 ``second_lstm_heatmap`` and, in the first,
            the parts of denoising, averages over the batch; the caller back-propagates their sum before it asks for the
            next chunk, or keeps the graph by adding them up.
        """
        yield from self._chunks(lambda: static_maps)

    def chunks_afresh(self, features: Tensor) -> Iterator[dict[str, Tensor]]:
        """As :meth:`chunks`, for callers that change the weights after a chunk: the gates are computed for each.

        Args:
            features (Tensor): (B, C, H, W).

        Yields:
            dict[str, Tensor]: as :meth:`chunks`.
        """
        yield from self._chunks(lambda: self.static_maps(features))

    def _chunks(self, compute_gates: Callable[[], list[Tensor]]) -> Iterator[dict[str, Tensor]]:
        gates = compute_gates()
        states, denoising = self._start(gates), self._denoise(gates[0])
        while True:
            states[0], chunk = self._run_chunk(gates[0], states[0])
            if self.second_lstm is not None:
                chunk['second_lstm_heatmaps'], states[1] = self.second_lstm.refine_chunk(
                    gates[1], states[1], chunk['heatmaps'], chunk['logits'], chunk['candidates']
                )
            yield {**self._losses(chunk), **denoising}
            if self.done:
                return
            denoising = {}
            states = [[(h.detach(), c.detach()) for h, c in part] for part in states]
            gates = compute_gates()

    def _start(self, static_maps: list[Tensor]) -> list[list[State]]:
        batch, device = len(static_maps[0]), static_maps[0].device
        counts = self.targets.counts
        self.steps_done, self.done = 0, False
        self.z = torch.tensor(counts, device=device)
        self.free = torch.arange(self.targets.heatmaps.shape[1], device=device) < self.z[:, None]
        self.not_stopped = torch.ones(batch, dtype=torch.bool, device=device)
        self.running = self.not_stopped
        # Every image runs to z + 1 at least, so no device sync is needed before the largest z.
        self.steps_sure = min(max(counts) + 1, self.rules.max_steps)
        parts = [part for part in (self.first_lstm, self.second_lstm) if part]
        return [part.initial_state(maps) for part, maps in zip(parts, static_maps)]

    def _denoise(self, static_maps: Tensor) -> dict[str, Tensor]:
        if self.denoising is None:
            return {}
        return self.denoising(self.first_lstm, self.heatmap_loss, self.stop_loss, self.targets, static_maps)

    def _any_running(self) -> bool:
        if self.steps_done < self.steps_sure:
            return True
        return self.steps_done < self.rules.max_steps and bool(self.running.any())

    def _run_chunk(self, static_maps: Tensor, states: list[State]) -> tuple[list[State], dict[str, Tensor]]:
        """Up to T people; each of the chunk's values gets the shape (B, T, ...)."""
        columns = {'heatmaps': [], 'logits': [], 'running': [], 'is_person': [], 'candidates': []}
        size = self.rules.chunk_size or self.rules.max_steps
        while not self.done and len(columns['logits']) < size:
            heatmaps, logits, states = self.first_lstm.step(static_maps, states)
            values = self._advance(logits.detach())
            for name, value in dict(values, heatmaps=heatmaps, logits=logits).items():
                columns[name].append(value)
            self.done = not self._any_running()
        return states, {name: torch.stack(values, dim=1) for name, values in columns.items()}

    def _advance(self, logits: Tensor) -> dict[str, Tensor]:
        """Masks of this step: images that still run, steps that are people, steps that are matched."""
        self.steps_done += 1
        t, z = self.steps_done, self.z
        running, is_person = self.running, t <= z
        confident = logits.float().sigmoid() >= self.rules.stop_threshold
        self.not_stopped = self.not_stopped & confident
        candidates = running & self.heatmap_loss.candidates(is_person, confident, self.not_stopped)
        finished = (t > z) & ~self.not_stopped
        if self.rules.max_surplus is not None:
            finished = finished | (t > z + self.rules.max_surplus)
        self.running = running & ~finished
        return dict(running=running, is_person=is_person, candidates=candidates)

    def _losses(self, chunk: dict[str, Tensor]) -> dict[str, Tensor]:
        targets, batch = self.targets, len(self.targets.counts)
        truth = targets.heatmaps, targets.keypoint_weights
        outputs = {'heatmap': chunk['heatmaps']} if self.rules.first_lstm_loss else {}
        if self.second_lstm is not None:
            outputs['second_lstm_heatmap'] = chunk['second_lstm_heatmaps']
        # Equation 4 is supervised by the assignment of equation 2: each person's true one is the same in both. It is
        # printed with u(s_t), which permutes true people; what LSTM2 gets at place t is LSTM1's step u(t), whose true
        # person is s at u(t). That is what the text says: true maps "reordered in the same input permutation u".
        matched_by = next(iter(outputs.values()))
        pairs, self.free = self.heatmap_loss.match(matched_by, *truth, self.free, chunk['candidates'], targets.mask)
        losses = {name: self.heatmap_loss(maps, *truth, pairs, targets.mask) for name, maps in outputs.items()}
        losses['stop'] = self.stop_loss(chunk['logits'], chunk['is_person'], chunk['running'])
        return {name: loss / batch for name, loss in losses.items()}
