"""Plain torch: LSTM2, which refines the sequence of LSTM1 in a chosen order (paper, sections 3.1.2 and 4.1).

Letters: B images, T steps, n people of one image, K keypoints, H x W cells, D hidden channels.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from .conv_lstm import State
from .heatmap_lstm import HeatmapLSTM

ORDERS = ('learned', 'random', 'confidence', 'inverse', 'canonical')


def order_people(
    order: str, heatmaps: Tensor, confidence: Tensor, present: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """The permutation u in which LSTM2 gets the people (table 3); those that are not present come last.

    - ``'learned'``: as LSTM1 gave them;
    - ``'random'``: drawn anew for each image;
    - ``'confidence'``: by the stop probability, highest first;
    - ``'inverse'``: LSTM1's last first;
    - ``'canonical'``: by place, "based on the maximum activation of every joint's heatmap". The paper leaves open how
      two coordinates of K joints become one number; here it is the mean over the joints of the arg max's index in the
      flattened map, that is from top to bottom and, at one height, from left to right.

    Args:
        order (str): one of the above.
        heatmaps (Tensor): (B, T, K, H, W), of LSTM1.
        confidence (Tensor): (B, T), stop probabilities or logits of LSTM1.
        present (Tensor): (B, T) bool, steps that are people.
        generator (torch.Generator, optional): of the random order. Defaults to torch's global one.

    Returns:
        Tensor: (B, T) int64; ``[b, i]`` is the step at place i.
    """
    B, T = present.shape
    if order in ('learned', 'inverse'):
        key = torch.arange(T, device=present.device, dtype=torch.float32).expand(B, T)
        key = -key if order == 'inverse' else key
    elif order == 'random':
        key = torch.rand(B, T, device=present.device, generator=generator)
    elif order == 'confidence':
        key = -confidence.detach().float()
    else:
        key = heatmaps.detach().flatten(-2).argmax(dim=-1).float().mean(dim=-1)
    key = key.masked_fill(~present, torch.inf)
    return order_by_comparisons(key) if torch.compiler.is_exporting() else key.argsort(dim=1, stable=True)


def order_by_comparisons(key: Tensor) -> Tensor:
    """A stable argsort of a few numbers, for exporting: ONNX has none.

    Args:
        key (Tensor): (B, T).

    Returns:
        Tensor: (B, T) int64, ``key.argsort(dim=1, stable=True)``.
    """
    places = torch.arange(key.shape[1], device=key.device)
    one, other = key[:, :, None], key[:, None]
    rank = ((other < one) | ((other == one) & (places < places[:, None]))).sum(dim=2)
    return ((rank[:, None] == places[:, None]) * places).sum(dim=2)


def rearrange(values: Tensor, order: Tensor) -> Tensor:
    """Steps in another order: ``result[b, i] = values[b, order[b, i]]``.

    Args:
        values (Tensor): (B, T, ...).
        order (Tensor): (B, T) int64.

    Returns:
        Tensor: (B, T, ...).
    """
    return values[torch.arange(order.shape[0], device=order.device)[:, None], order]


def maps_of_others(maps: Tensor, earlier: Tensor) -> Tensor:
    """For each step the maximum over all other steps' maps and those of earlier chunks.

    Args:
        maps (Tensor): (B, T, K, H, W), in [0, 1], all 0 at steps that are not people.
        earlier (Tensor): (B, K, H, W), the maximum over earlier chunks.

    Returns:
        Tensor: (B, T, K, H, W).
    """
    before = list(accumulate(maps.unbind(1), torch.maximum, initial=earlier))[:-1]
    after = list(accumulate(maps.flip(1).unbind(1), torch.maximum, initial=earlier))[-2::-1]
    return torch.stack([torch.maximum(*both) for both in zip(before, after)], dim=1)


class SecondLSTM(HeatmapLSTM):
    """LSTM2: at place i of the chosen order it takes F and that person's heatmaps, and gives them refined.

    It needs no stop probability of its own: it gets as many people as LSTM1 found. Gradients flow through the
    heatmaps into LSTM1.

    Departures, where the paper leaves open how LSTM2 and the chunks of section 3.2.1 go together. While training it
    gets the steps that are matched, in the order within a chunk of T people, since later people do not exist
    yet when a chunk is back-propagated. At inference it gets everyone that LSTM1 found, surplus people too, in the
    order of the whole image. For an image of at most T people whose number is right the two are the same.

    With ``others``, which is not the paper's, it also takes what LSTM1 shows of everyone else, before and after in the
    order: per joint the maximum of their heatmaps, clamped to [0, 1] and without a graph, as in
    :class:`ClaimingLSTM`. So a joint that two people claim can be decided. LSTM1's maps stand for those before too:
    they are there whatever the order, and the hidden state knows what was made of them. While training, the others
    are those of this chunk and of earlier ones.

    Args:
        feature_channels (int): C.
        num_keypoints (int): K.
        hidden_channels (tuple[int, ...]): D of each layer. Defaults to (68, 34): two, halved as in LSTM1.
        feedback_passes (int): own passes per person, in which it is also fed its own heatmaps, >= 0. Defaults to 0.
        kernel_size (int): of the ConvLSTM's convolutions. Defaults to 3.
        order (str): one of ``ORDERS``, see :func:`order_people`. Defaults to ``'learned'``.
        noise (float): its own heatmaps begin as U[0, noise]. Defaults to 0.1.
        context (str): see :class:`HeatmapLSTM`. Defaults to ``'none'``.
        layer_strides (tuple[int, ...], optional): see :class:`HeatmapLSTM`. Defaults to None.
        others (bool): K more inputs, the maxima over everyone else's heatmaps. Defaults to False.

    Raises:
        ValueError: for an unknown order, another value than True or False, or layers that cannot be built.
    """

    def __init__(
        self,
        feature_channels: int,
        num_keypoints: int,
        hidden_channels: tuple[int, ...] = (68, 34),
        feedback_passes: int = 0,
        kernel_size: int = 3,
        order: str = 'learned',
        noise: float = 0.1,
        context: str = 'none',
        layer_strides: tuple[int, ...] | None = None,
        others: bool = False,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f'order of LSTM2 is {order!r}; use one of {ORDERS}.')
        if not isinstance(others, bool):
            raise ValueError(f'others of LSTM2 is {others!r}; use True or False.')
        super().__init__(
            feature_channels,
            num_keypoints,
            hidden_channels,
            feedback_passes,
            kernel_size,
            noise,
            given_channels=num_keypoints * (1 + others),
            context=context,
            layer_strides=layer_strides,
        )
        self.order, self.others = order, others

    def inputs(
        self, heatmaps: Tensor, present: Tensor, earlier: list[State] | None = None
    ) -> tuple[Tensor, list[State]]:
        """What each person's step takes beside F.

        Args:
            heatmaps (Tensor): (B, T, K, H, W), of LSTM1.
            present (Tensor): (B, T) bool, steps that are people.
            earlier (list[tuple[Tensor, Tensor]], optional): what this gave in the chunk before. Defaults to None.

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: (B, T, K, H, W), or with ``others`` (B, T, 2 K, H, W); and, for
            the next chunk, a pair (B, K, H, W) and (B, 0, H, W) of all people so far, nothing without ``others``.
        """
        if not self.others or not heatmaps.shape[1]:
            return heatmaps, []
        maps = heatmaps.detach().clamp(0, 1).masked_fill(~present[..., None, None, None], 0)
        claimed = earlier[0][0] if earlier else torch.zeros_like(maps[:, 0])
        carried = torch.maximum(claimed, maps.amax(dim=1))
        return torch.cat([heatmaps, maps_of_others(maps, claimed)], dim=2), [(carried, carried[:, :0])]

    def refine_chunk(
        self, static_maps: Tensor, states: list[State], heatmaps: Tensor, confidence: Tensor, present: Tensor
    ) -> tuple[Tensor, list[State]]:
        """Training: the people of a chunk, in the chosen order within the chunk.

        An image that has fewer people than the chunk has steps keeps its hidden state after its last person.

        Args:
            static_maps (Tensor): from :meth:`start`.
            states (list[tuple[Tensor, Tensor]]): of the chunk before: h and c of each layer, and what
                :meth:`inputs` carries.
            heatmaps (Tensor): (B, T, K, H, W), of LSTM1.
            confidence (Tensor): (B, T), stop logits of LSTM1.
            present (Tensor): (B, T) bool, steps that are people.

        Returns:
            tuple[Tensor, list[tuple[Tensor, Tensor]]]: refined heatmaps (B, T, K, H, W), each at its person's step of
            LSTM1, so that LSTM1's assignment applies (equation 4; values at steps that are not present have no
            meaning); and the new states.
        """
        order = order_people(self.order, heatmaps, confidence, present)
        layers = len(self.lstm.layers)
        given, carried = self.inputs(heatmaps, present, states[layers:])
        states = states[:layers]
        ordered, is_person = rearrange(given, order), rearrange(present, order)
        refined = []
        for place in range(ordered.shape[1]):
            maps, new_states = self.run_passes(static_maps, states, given=ordered[:, place])
            refined.append(maps)
            going_on = is_person[:, place, None, None, None]
            states = [
                (torch.where(going_on, new_h, h), torch.where(going_on, new_c, c))
                for (new_h, new_c), (h, c) in zip(new_states, states)
            ]
        return rearrange(torch.stack(refined, dim=1), order.argsort(dim=1)), [*states, *carried]

    @torch.no_grad()
    def refine_people(
        self, features: Tensor, people: list[tuple[Tensor, Tensor]], seed: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """Inference: the people that LSTM1 found, all of an image in the chosen order.

        Noise and random order come from their own seed, the same for every image of the batch, so an image's poses
        depend on neither its neighbours nor what ran before. An image leaves the batch after its last person.

        Args:
            features (Tensor): (B, C, H, W).
            people (list[tuple[Tensor, Tensor]]): for each image heatmaps (n, K, H, W) and stop probabilities (n,).
            seed (int): of noise and random order. Defaults to 0.

        Returns:
            list[tuple[Tensor, Tensor]]: as ``people``, refined and in the chosen order.
        """
        size = self.images_at_once(features)
        groups = zip(features.split(size), (people[i : i + size] for i in range(0, len(people), size)))
        return [refined for group in groups for refined in self._refine_group(*group, seed)]

    def _refine_group(
        self, features: Tensor, people: list[tuple[Tensor, Tensor]], seed: int
    ) -> list[tuple[Tensor, Tensor]]:
        ordered = [self._in_order(*found, seed) for found in people]
        images = [image for image, (_, probabilities) in enumerate(ordered) if len(probabilities)]
        static_maps, states = self.start(features[images])
        generator = torch.Generator(features.device).manual_seed(seed)
        refined = [[] for _ in people]
        for place in range(max((len(probabilities) for _, probabilities in ordered), default=0)):
            going_on = [row for row, image in enumerate(images) if place < len(ordered[image][1])]
            if len(going_on) < len(images):
                images = [images[row] for row in going_on]
                rows = torch.tensor(going_on, device=features.device)  # as in FirstLSTM
                static_maps = static_maps[rows]
                states = [(h[rows], c[rows]) for h, c in states]
            noise = self.draw_noise(1, *features.shape[-2:], generator).expand(len(images), -1, -1, -1)
            given = torch.stack([ordered[image][0][place] for image in images])
            heatmaps, states = self.run_passes(static_maps, states, noise, given)
            for row, image in enumerate(images):
                refined[image].append(heatmaps[row])
        return [
            (torch.stack(maps) if maps else heatmaps, probabilities)
            for maps, (heatmaps, probabilities) in zip(refined, ordered)
        ]

    def _in_order(self, heatmaps: Tensor, probabilities: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator(heatmaps.device).manual_seed(seed)
        everyone = torch.ones_like(probabilities, dtype=torch.bool)
        (order,) = order_people(self.order, heatmaps[None], probabilities[None], everyone[None], generator)
        (given,), _ = self.inputs(heatmaps[None], everyone[None])
        return given[order], probabilities[order]
