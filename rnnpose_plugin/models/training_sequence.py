"""Plain torch: the training algorithm (Algorithm 1), chunk by chunk. It knows nothing of MMPose or of optimizers.

Letters: B images, T steps of a chunk, N true people, K keypoints, H x W cells; z and z^ as in equation 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .conv_lstm import State
from .recurrent_decoder import RecurrentDecoder


@dataclass
class Targets:
    """What a batch of images is supervised with.

    Args:
        heatmaps (Tensor): (B, N, K, H, W), people beyond an image's count all zero.
        keypoint_weights (Tensor): (B, N, K).
        counts (list[int]): z of each image; on the host, so that how far to run is known without asking the device.
        mask (Tensor, optional): (B, H, W), 0 where nothing is annotated.
    """

    heatmaps: Tensor
    keypoint_weights: Tensor
    counts: list[int]
    mask: Tensor | None = None


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
    """

    stop_threshold: float
    chunk_size: int | None = None
    max_steps: int = 30
    max_surplus: int | None = None


class TrainingSequence:
    """Runs the decoder over a batch and yields the loss of one chunk after the other.

    Every image of the batch keeps its own length |p| = max(z^, z) + 1 and its own matching; images that are finished
    step along and count for nothing. Between chunks the hidden state is kept but detached (section 3.2.1).

    Departure: a chunk ends after T people or with the sequence. Line 10 of Algorithm 1 also ends one at every step with
    p < omega, which in the middle of a sequence (z^ < z) would cut gradients after single steps, at different steps in
    the images of a batch, and would need the host's attention at every step.

    Args:
        decoder (RecurrentDecoder): LSTM1.
        heatmap_loss (nn.Module): called like ``HungarianHeatmapLoss``.
        stop_loss (nn.Module): called like ``StopLoss``.
        targets (Targets): of the batch.
        rules (SequenceRules): lengths and chunks.
    """

    def __init__(
        self,
        decoder: RecurrentDecoder,
        heatmap_loss: nn.Module,
        stop_loss: nn.Module,
        targets: Targets,
        rules: SequenceRules,
    ) -> None:
        self.decoder = decoder
        self.heatmap_loss = heatmap_loss
        self.stop_loss = stop_loss
        self.targets = targets
        self.rules = rules
        self.steps_done = 0

    def chunks(self, static_gates: Tensor) -> Iterator[dict[str, Tensor]]:
        """Algorithm 1, lines 1 to 19, but for the optimizer.

        Args:
            static_gates (Tensor): (B, 4 D, H, W), from :meth:`RecurrentDecoder.start`.

        Yields:
            dict[str, Tensor]: scalars ``heatmap`` and ``stop``, averages over the batch; the caller back-propagates
            their sum before it asks for the next chunk, or keeps the graph by adding them up.
        """
        states = self._start(static_gates)
        while not self.done:
            states, chunk = self._run_chunk(static_gates, states)
            yield self._losses(chunk)
            states = [(h.detach(), c.detach()) for h, c in states]

    def _start(self, static_gates: Tensor) -> list[State]:
        batch, _, height, width = static_gates.shape
        device = static_gates.device
        counts = self.targets.counts
        self.steps_done, self.done = 0, False
        self.z = torch.tensor(counts, device=device)
        self.free = torch.arange(self.targets.heatmaps.shape[1], device=device) < self.z[:, None]
        self.not_stopped = torch.ones(batch, dtype=torch.bool, device=device)
        self.running = self.not_stopped
        # Every image runs to z + 1 at least, so until the largest is there nobody needs to ask the device.
        self.steps_sure = min(max(counts) + 1, self.rules.max_steps)
        return self.decoder.lstm.initial_state(batch, height, width)

    def _anyone_running(self) -> bool:
        if self.steps_done < self.steps_sure:
            return True
        return self.steps_done < self.rules.max_steps and bool(self.running.any())

    def _run_chunk(self, static_gates: Tensor, states: list[State]) -> tuple[list[State], dict[str, Tensor]]:
        """Up to T people; each of the chunk's values gets the shape (B, T, ...)."""
        columns = {'heatmaps': [], 'logits': [], 'running': [], 'is_person': [], 'candidates': []}
        size = self.rules.chunk_size or self.rules.max_steps
        while not self.done and len(columns['logits']) < size:
            heatmaps, logits, states = self.decoder.step(static_gates, states)
            values = self._keep_count(logits.detach())
            for name, value in dict(values, heatmaps=heatmaps, logits=logits).items():
                columns[name].append(value)
            self.done = not self._anyone_running()
        return states, {name: torch.stack(values, dim=1) for name, values in columns.items()}

    def _keep_count(self, logits: Tensor) -> dict[str, Tensor]:
        """Who still runs, who counts as a person, who is matched at this step; moves on to the next one."""
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
        heatmap, self.free = self.heatmap_loss(
            chunk['heatmaps'],
            targets.heatmaps,
            targets.keypoint_weights,
            self.free,
            chunk['candidates'],
            targets.mask,
        )
        stop = self.stop_loss(chunk['logits'], chunk['is_person'], chunk['running'])
        return dict(heatmap=heatmap / batch, stop=stop / batch)
