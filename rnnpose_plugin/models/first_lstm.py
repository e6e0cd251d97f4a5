"""Plain torch: LSTM1, one person's heatmaps and a stop logit per step (section 3.1.1). It does not import MMPose.

Letters: N images, C feature channels, K keypoints, H x W cells, D hidden channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .conv_lstm import State
from .heatmap_lstm import HeatmapLSTM


class FirstLSTM(HeatmapLSTM):
    """LSTM1 of the paper (section 3.1.1, figure 3): one person per step, and a stop logit.

    After a step's last pass a linear layer over the global maxima of every layer's hidden state gives the stop logit:
    how sure the network is that this was a new person.

    Args:
        feature_channels (int): C.
        num_keypoints (int): K.
        hidden_channels (tuple[int, ...]): D of each layer. Defaults to (68, 34, 17): c halved at every layer down to J.
        feedback_passes (int): passes per person, >= 0. Defaults to 2.
        kernel_size (int): of the ConvLSTM's convolutions. Defaults to 3.
        noise (float): the first pass's heatmaps are drawn from U[0, noise]. Defaults to 0.1.
        context (str): see :class:`HeatmapLSTM`. Defaults to ``'none'``.
        layer_strides (tuple[int, ...], optional): see :class:`HeatmapLSTM`. Defaults to None.
        given_channels (int): see :class:`HeatmapLSTM`; a subclass's step gives them. Defaults to 0.
    """

    def __init__(
        self,
        feature_channels: int,
        num_keypoints: int,
        hidden_channels: tuple[int, ...] = (68, 34, 17),
        feedback_passes: int = 2,
        kernel_size: int = 3,
        noise: float = 0.1,
        context: str = 'none',
        layer_strides: tuple[int, ...] | None = None,
        given_channels: int = 0,
    ) -> None:
        super().__init__(
            feature_channels,
            num_keypoints,
            hidden_channels,
            feedback_passes,
            kernel_size,
            noise,
            given_channels,
            context=context,
            layer_strides=layer_strides,
        )
        self.to_stop = nn.Linear(sum(hidden_channels), 1)

    def step(
        self, static_maps: Tensor, states: list[State], first: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[State]]:
        """One person.

        Args:
            static_maps (Tensor): from :meth:`start`.
            states (list[tuple[Tensor, Tensor]]): h and c of each layer.
            first (Tensor, optional): (N, K, H, W) for the first pass. Defaults to fresh noise.

        Returns:
            tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]: heatmaps (N, K, H, W), unbounded; stop logits (N,); the
            new h and c of each layer.
        """
        heatmaps, states = self.run_passes(static_maps, states, first)
        return heatmaps, self.stop_logits(states), states

    def stop_logits(self, states: list[State]) -> Tensor:
        """How sure it is that a step's person was a new one.

        Args:
            states (list[tuple[Tensor, Tensor]]): h and c of each layer after the step's last pass.

        Returns:
            Tensor: (N,).
        """
        maxima = torch.cat([h.amax(dim=(2, 3)) for h, _ in states], dim=1)
        return self.to_stop(maxima).squeeze(1)

    @torch.no_grad()
    def decode_people(
        self, features: Tensor, stop_threshold: float, max_instances: int, seed: int = 0
    ) -> tuple[list[tuple[Tensor, Tensor]], list[int]]:
        """Inference: step until p < omega; images that are finished leave the batch.

        The noise is drawn from its own seed and is the same for every image of the batch, so an image's poses depend on
        neither its neighbours nor what ran before.

        Args:
            features (Tensor): (N, C, H, W).
            stop_threshold (float): omega, in (0, 1).
            max_instances (int): at most this many people per image.
            seed (int): of the noise. Defaults to 0.

        Returns:
            tuple[list[tuple[Tensor, Tensor]], list[int]]: for each image the heatmaps (n, K, H, W) and stop
            probabilities (n,) of its n people; and the images that had not stopped after ``max_instances``.
        """
        people, unfinished = [], []
        for group in features.split(self.images_at_once(features)):
            found, still = self._decode_group(group, stop_threshold, max_instances, seed)
            unfinished += [len(people) + image for image in still]
            people += found
        return people, unfinished

    def _decode_group(
        self, features: Tensor, stop_threshold: float, max_instances: int, seed: int
    ) -> tuple[list[tuple[Tensor, Tensor]], list[int]]:
        static_maps, states = self.start(features)
        height, width = features.shape[-2:]
        generator = torch.Generator(features.device).manual_seed(seed)
        people = [([], []) for _ in range(len(features))]
        running = list(range(len(features)))
        for _ in range(max_instances):
            noise = self.draw_noise(1, height, width, generator).expand(len(running), -1, -1, -1)
            heatmaps, logits, states = self.step(static_maps, states, noise)
            probabilities = logits.float().sigmoid()
            is_person = (probabilities >= stop_threshold).tolist()  # waits for the device
            rows = [row for row, person in enumerate(is_person) if person]
            for row in rows:
                people[running[row]][0].append(heatmaps[row])
                people[running[row]][1].append(probabilities[row])
            if not rows:
                running = []
                break
            if len(rows) < len(running):
                running = [running[row] for row in rows]
                # A list as the index would be sent to the device every time; index_select forgets channels-last.
                index = torch.tensor(rows, device=features.device)
                static_maps = static_maps[index]
                states = [(h[index], c[index]) for h, c in states]
        empty = features.new_zeros(0, self.num_keypoints, height, width), features.new_zeros(0)
        stacked = [(torch.stack(maps), torch.stack(p)) if maps else empty for maps, p in people]
        return stacked, running
