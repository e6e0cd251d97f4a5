"""The pose path as two graphs, of which the caller runs the second once per person."""

from __future__ import annotations

from mmengine.model import BaseModel
from torch import Tensor, nn

from .networks import ImageEncoder, PersonDecoder, Tensors


class Encode(nn.Module):
    """Image to what a step takes beside its number: static maps and the empty state.

    Args:
        model (BaseModel): with a ``RecurrentPoseHead``.

    Raises:
        ValueError: if its LSTM2 has to wait for all people.
    """

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.encoder, self.decoder = ImageEncoder(model), PersonDecoder(model.head)
        second_lstm = self.decoder.second_lstm
        if self.decoder.refines_afterwards:
            raise ValueError(
                f"second_lstm has order='{second_lstm.order}' and others={second_lstm.others}, "
                "which needs all people before its first person; use --form whole or unrolled, or order='learned' "
                'without others.'
            )

    @property
    def names(self) -> list[str]:
        """list[str]: of what it gives."""
        maps = ['maps_1', 'maps_2'] if self.decoder.refines_each_step else ['maps_1']
        count = len(self.strides) - len(maps)
        return maps + [f'{part}_{layer}' for layer in range(1, count // 2 + 1) for part in 'hc']

    @property
    def strides(self) -> list[float]:
        """list[float]: pixels of the image along one side of a cell, for each of what it gives."""
        decoder = self.decoder
        lstms = [decoder.first_lstm, decoder.second_lstm] if decoder.refines_each_step else [decoder.first_lstm]
        layers = [stride for lstm in lstms for stride in lstm.lstm.strides]
        return [decoder.codec.stride * stride for stride in [1] * len(lstms) + [s for s in layers for _ in 'hc']]

    def forward(self, image: Tensor) -> Tensors:
        """Features, normalised and convolved.

        Args:
            image (Tensor): (B, 3, h, w) in RGB, 0 to 255, uint8 or float32.

        Returns:
            tuple[Tensor, ...]: see :meth:`PersonDecoder.start`, in one row.
        """
        maps, states = self.decoder.start(self.encoder(image))
        return (*maps, *states)


class Step(nn.Module):
    """State to one person and the next state.

    Args:
        decoder (PersonDecoder): of :class:`Encode`.
    """

    def __init__(self, decoder: PersonDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.num_maps = 2 if decoder.refines_each_step else 1

    def forward(self, number: Tensor, *encoded: Tensor) -> Tensors:
        """One person.

        Args:
            number (Tensor): () int64, of the step, from 0.
            *encoded (Tensor): from :class:`Encode`; after the first step its states are those of the step before.

        Returns:
            tuple[Tensor, ...]: keypoints (B, K, 3) in pixels of the image, instance score (B,), 0 for a person without
            a kept joint, stop probability (B,), and the new states.
        """
        maps, states = encoded[: self.num_maps], encoded[self.num_maps :]
        heatmaps, probabilities, states = self.decoder.step(number, maps, states)
        keypoints, scores = self.decoder.codec.locate(heatmaps.float(), probabilities)
        return (keypoints, scores, probabilities, *states)
