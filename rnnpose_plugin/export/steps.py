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
        self.encoder, self.decoder = ImageEncoder(model), PersonDecoder(model)
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
        return [name for name, _ in self._parts()]

    @property
    def strides(self) -> list[float]:
        """list[float]: pixels of the image along one side of a cell, for each of what it gives."""
        return [self.decoder.codec.stride * cells for _, cells in self._parts()]

    def _parts(self) -> list[tuple[str, int]]:
        """Name and cells of F along one side of a cell."""
        decoder = self.decoder
        lstms = [decoder.first_lstm, decoder.second_lstm] if decoder.refines_each_step else [decoder.first_lstm]
        maps = [(f'maps_{number}', 1) for number, _ in enumerate(lstms, start=1)]
        layers = [cells for lstm in lstms for cells in lstm.lstm.strides]
        states = [(f'{part}_{layer}', cells) for layer, cells in enumerate(layers, start=1) for part in 'hc']
        if decoder.claims:
            states.insert(2 * len(decoder.first_lstm.lstm.layers), ('claimed', 1))
        return maps + [('maps_peaks', 1)] * decoder.snaps + states

    def forward(self, image: Tensor) -> Tensors:
        """Features, normalised and convolved.

        Args:
            image (Tensor): (B, 3, h, w) in RGB, 0 to 255, uint8 or float32.

        Returns:
            tuple[Tensor, ...]: see :meth:`PersonDecoder.start`, in one row, the backbone's peaks behind the
            static maps.
        """
        features, *peaks = self.encoder(image)
        maps, states = self.decoder.start(features)
        return (*maps, *peaks, *states)


class Step(nn.Module):
    """State to one person and the next state.

    Args:
        decoder (PersonDecoder): of :class:`Encode`.
    """

    def __init__(self, decoder: PersonDecoder) -> None:
        super().__init__()
        self.decoder = decoder
        self.static = 2 if decoder.refines_each_step else 1
        self.num_maps = self.static + decoder.snaps

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
        keypoints, scores = self.decoder.locate(heatmaps, probabilities, *maps[self.static :])
        return (keypoints, scores, probabilities, *states)
