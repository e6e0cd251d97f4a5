from __future__ import annotations

import math

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import BaseHead
from mmpose.registry import KEYPOINT_CODECS, MODELS
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..codecs.associative_embedding import from_ae_cells, to_ae_cells
from ..engine.chunked_backprop import ChunkStep, backprop_in_chunks, backprop_with_steps
from .ae_refinement import fill_missing
from .first_lstm import FirstLSTM
from .second_lstm import SecondLSTM
from .training_sequence import Curriculum, SequenceRules, Targets, TrainingSequence
from .view_merging import View, check_merging, list_views, merge_views, mirror_people

# What test_cfg may hold, and what it is without: the toolbox's three, and this head's.
TEST_SETTINGS = dict(
    output_heatmaps=False,
    flip_test=False,
    multiscale_test=False,
    unmatched='keep',
    match_distance=0.8,
    ae_refinement=False,
)


@MODELS.register_module()
class RecurrentPoseHead(BaseHead):
    """One person's heatmaps per step, until the stop probability falls below omega (paper, section 3).

    Wiring only: features -> norm -> :class:`FirstLSTM` (LSTM1) and, if asked for, :class:`SecondLSTM`
    (LSTM2); in training :class:`TrainingSequence` with the two losses, at inference the codec.

    Letters: B images, K keypoints, H x W cells, n people found in an image.

    Args:
        in_channels (int): channels of the neck's features.
        num_keypoints (int): K.
        decoder (dict): config of the codec (the toolbox's name for it), an ``InstanceHeatmap``.
        hidden_channels (tuple[int, ...]): of the ConvLSTM layers. Defaults to (68, 34, 17).
        feedback_passes (int): passes per person. Defaults to 2.
        kernel_size (int): of the ConvLSTM's convolutions, odd. Defaults to 3.
        context (str): what every cell is told of the whole picture: ``'none'`` as in the paper, ``'pooled'`` or
            ``'read'``, see :class:`GlobalContext`. Defaults to ``'none'``.
        layer_strides (tuple[int, ...], optional): cells of F along one side of a cell of each layer, see
            :class:`ConvLSTM`. Defaults to None, 1 for all, as in the paper.
        stop_threshold (float): omega, in (0, 1), in training and at inference. Defaults to sigmoid(-1), about 0.27.
        max_instances (int): most people per image, in training (longer sequences are cut) and at inference (with a
            warning). Defaults to 30, as in the toolbox's AE configs.
        max_train_instances (int, optional): ends sequences earlier while training, the paper's "simply stopping after
            only 8 iterations" (section 3.2.1). Defaults to None, ``max_instances``.
        max_surplus (int, optional): while training, the most steps after z + 1. Defaults to None, no limit.
        second_lstm (dict, optional): arguments of LSTM2, a :class:`SecondLSTM` (section 3.1.2), such as
            ``dict(order='learned')``; what is given out is then its heatmaps. Defaults to None, a single LSTM.
        first_lstm_loss (bool): False leaves equation 2 out, so that only LSTM2 is supervised (section 4.1). Defaults to
            True.
        feature_norm (dict, optional): config of the norm before the decoder; None for none. ``num_features`` is filled
            in. Defaults to ``dict(type='RunningFeatureNorm')``.
        heatmap_loss (dict): config. Defaults to ``dict(type='HungarianHeatmapLoss')``.
        stop_loss (dict): config. Defaults to ``dict(type='StopLoss')``.
        init_cfg (dict, optional): initialisation, see :class:`mmengine.model.BaseModule`. Defaults to None: torch's own
            for convolutions.

    Raises:
        ValueError: for settings that cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        decoder: dict,
        hidden_channels: tuple[int, ...] = (68, 34, 17),
        feedback_passes: int = 2,
        kernel_size: int = 3,
        context: str = 'none',
        layer_strides: tuple[int, ...] | None = None,
        stop_threshold: float = 1 / (1 + math.e),
        max_instances: int = 30,
        max_train_instances: int | None = None,
        max_surplus: int | None = None,
        second_lstm: dict | None = None,
        first_lstm_loss: bool = True,
        feature_norm: dict | None = dict(type='RunningFeatureNorm'),
        heatmap_loss: dict = dict(type='HungarianHeatmapLoss'),
        stop_loss: dict = dict(type='StopLoss'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(stop_threshold, (int, float)) or not 0 < stop_threshold < 1:
            raise ValueError(f'stop_threshold (omega) is {stop_threshold!r}; it is a probability strictly in (0, 1).')
        if not isinstance(max_instances, int) or max_instances < 1:
            raise ValueError(f'max_instances is {max_instances!r}; allow at least 1 person per image.')
        if max_train_instances is not None and (not isinstance(max_train_instances, int) or max_train_instances < 1):
            raise ValueError(
                f'max_train_instances is {max_train_instances!r}; use None for max_instances, or at least 1.'
            )
        if max_surplus is not None and (not isinstance(max_surplus, int) or max_surplus < 0):
            raise ValueError(f'max_surplus is {max_surplus!r}; use None for no limit, or 0 and more steps.')
        if second_lstm is not None and not hidden_channels:
            raise ValueError(
                f'second_lstm={second_lstm} refines the heatmaps of LSTM1, but hidden_channels is {hidden_channels}; '
                'give LSTM1 its layers, or leave second_lstm out.'
            )
        if not isinstance(first_lstm_loss, bool):  # any word, such as 'no', would count as True
            raise ValueError(f'first_lstm_loss is {first_lstm_loss!r}; use True or False.')
        if second_lstm is None and not first_lstm_loss:
            raise ValueError('first_lstm_loss is False, but without second_lstm nothing else is supervised; set one.')
        self.num_keypoints = num_keypoints
        self.in_channels = in_channels
        self.stop_threshold = stop_threshold
        self.max_instances = max_instances
        self.max_train_instances = max_train_instances or max_instances
        self.max_surplus = max_surplus
        self.first_lstm_loss = first_lstm_loss
        self.decoder = KEYPOINT_CODECS.build(decoder)
        self.norm = None
        if feature_norm is not None:
            self.norm = MODELS.build(dict(feature_norm, num_features=in_channels))
        self.first_lstm = FirstLSTM(
            in_channels,
            num_keypoints,
            hidden_channels,
            feedback_passes,
            kernel_size,
            context=context,
            layer_strides=layer_strides,
        )
        self.second_lstm = None
        if second_lstm is not None:
            self.second_lstm = SecondLSTM(in_channels, num_keypoints, **second_lstm)
        self.heatmap_loss = MODELS.build(heatmap_loss)
        self.stop_loss = MODELS.build(stop_loss)
        # Set by ChunkedBackpropHook while it is active.
        self.chunk_size: int | None = None
        self.chunk_loss_scale = 1.0
        self.chunk_step: ChunkStep | None = None
        self._said_no_ae_maps = False
        # Changed by the hooks of engine/curriculum.py.
        self.curriculum = Curriculum()

    def _features(self, feats: tuple[Tensor, ...]) -> Tensor:
        features = feats[0]
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f'The head was built for in_channels={self.in_channels}, but the neck gives {features.shape[1]} '
                "channels; set the head's in_channels to the neck's out_channels."
            )
        return features if self.norm is None else self.norm(features)

    def forward(self, feats: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """The network's output without codec.

        Args:
            feats (tuple[Tensor, ...]): from the neck; the first is F (B, C, H, W).

        Returns:
            list[tuple[Tensor, Tensor]]: for each image the heatmaps (n, K, H, W), LSTM2's if there is one, and stop
            probabilities (n,), LSTM1's.
        """
        features = self._features(feats)
        people, unfinished = self.first_lstm.decode_people(features, self.stop_threshold, self.max_instances)
        if unfinished:
            print_log(
                f'{len(unfinished)} of {len(people)} images still had people after max_instances='
                f'{self.max_instances} steps; raise max_instances if that many are expected.',
                logger='current',
                level=30,
            )
        return people if self.second_lstm is None else self.second_lstm.refine_people(features, people)

    def predict(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, test_cfg: dict | None = None
    ) -> list[InstanceData] | tuple[list[InstanceData], list[PixelData]]:
        """Poses in input space, the toolbox's way.

        Args:
            feats (tuple[Tensor, ...]): from the neck; with ``flip_test`` or ``multiscale_test`` lists of them, as
                ``BottomupPoseEstimator`` makes them.
            batch_data_samples (list[PoseDataSample]): of the batch; their metainfo has ``flip_indices`` and
                ``aug_scales`` where the settings need them.
            test_cfg (dict, optional): settings. ``output_heatmaps`` adds the heatmaps; ``flip_test`` and
                ``multiscale_test`` average over views, whose people are matched first, see :func:`merge_views` for
                ``unmatched`` and ``match_distance``; ``ae_refinement`` looks joints that were discarded up in the AE
                maps behind F (section 3.3), see :func:`fill_missing`.

        Returns:
            list[InstanceData] | tuple[list[InstanceData], list[PixelData]]: for each image ``keypoints`` (n, K, 2) in
            pixels of the input image, ``keypoint_scores`` (n, K) and ``bbox_scores`` (n,), the instance score by which
            AP ranks; with heatmaps also ``heatmaps`` (K, H, W), the maximum over people, and ``instance_heatmaps``
            (n * K, H, W), person by person.

        Raises:
            ValueError: for a setting that is unknown, or that the samples do not support.
        """
        self.check_test_settings(test_cfg)
        settings = {**TEST_SETTINGS, **(test_cfg or {})}
        views = self._views(feats, batch_data_samples[0].metainfo, settings)
        sequences = zip(*(self._people_of(view, views, batch_data_samples) for view in views))
        merging = settings['unmatched'], settings['match_distance']
        people = [self._most_likely(*merge_views(list(of_image), *merging)) for of_image in sequences]
        ae_maps = self._ae_maps(views) if settings['ae_refinement'] else [None] * len(people)
        instances, heatmaps = zip(*(self._decode(*found, maps) for found, maps in zip(people, ae_maps)))
        if not settings['output_heatmaps']:
            return list(instances)
        return list(instances), [self._as_pixel_data(maps) for maps in heatmaps]

    @staticmethod
    def check_test_settings(test_cfg: dict | None) -> None:
        """Refuse a ``test_cfg`` that :meth:`predict` would not understand.

        Args:
            test_cfg (dict, optional): the model's.

        Raises:
            ValueError: for an unknown setting or value.
        """
        unknown = set(test_cfg or {}) - set(TEST_SETTINGS)
        if unknown:
            raise ValueError(f'test_cfg has unknown settings {sorted(unknown)}; known are {sorted(TEST_SETTINGS)}.')
        settings = {**TEST_SETTINGS, **(test_cfg or {})}
        check_merging(settings['unmatched'], settings['match_distance'])
        for name, default in TEST_SETTINGS.items():  # the word 'no' would switch an option on
            if isinstance(default, bool) and not isinstance(settings[name], bool):
                raise ValueError(f'{name} is {settings[name]!r}; use True or False.')

    def _views(self, feats: tuple | list, metainfo: dict, settings: dict) -> list[View]:
        scales = metainfo.get('aug_scales') if settings['multiscale_test'] else []
        if settings['multiscale_test'] and not scales:
            raise ValueError(
                f'multiscale_test is True, but the samples have aug_scales={scales}; set aug_scales in BottomupResize '
                'and add it to the meta_keys of PackPoseInputs.'
            )
        if settings['flip_test'] and metainfo.get('flip_indices') is None:
            raise ValueError(
                'flip_test is True, but the samples have no flip_indices; add it to the meta_keys of PackPoseInputs.'
            )
        views = list_views(feats, self.decoder.input_size, settings['flip_test'], scales)
        self._check_stride(views[0].feats[0], metainfo.get('batch_input_shape'))
        return views

    def _check_stride(self, features: Tensor, input_shape: tuple[int, int] | None) -> None:
        """Poses would silently be placed at another scale; (h, w) is None without the toolbox's preprocessor."""
        stride = self.decoder.stride
        if any(abs(cells * stride - side) >= stride for cells, side in zip(features.shape[-2:], input_shape or ())):
            raise ValueError(
                f'The codec takes a cell for {stride:g} pixels, but the features of a picture of '
                f"{tuple(input_shape[::-1])} pixels have {tuple(features.shape[:-3:-1])} cells; set the codec's "
                "heatmap_size to input_size / the neck's stride."
            )

    def _people_of(self, view: View, views: list[View], samples: list) -> list[tuple[Tensor, Tensor]]:
        """Each image's people as one view shows them, mirrored back and on the codec's cells."""
        people = self.forward(view.feats)
        if view.mirrored:
            flip_indices = samples[0].metainfo['flip_indices']
            people = [(mirror_people(heatmaps, flip_indices), p) for heatmaps, p in people]
        if len({other.input_size for other in views}) > 1:
            people = [(self.decoder.resample(heatmaps, view.input_size), p) for heatmaps, p in people]
        return people

    def _most_likely(self, heatmaps: Tensor, stop_probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """At most ``max_instances`` people: together, views may show more than each of them."""
        kept = stop_probabilities.topk(min(self.max_instances, len(stop_probabilities))).indices.sort().values
        return heatmaps[kept], stop_probabilities[kept]

    def _ae_maps(self, views: list[View]) -> list[tuple[Tensor, Tensor] | None]:
        """Each image's AE heatmaps, averaged over the scales, and its tags at the base scale (section 3.3).

        Mirrored views are left out: AE's cells, unlike the codec's, are not mirrored onto cells.
        """
        maps = [view.feats[1] for view in views if not view.mirrored and len(view.feats) > 1]
        # A pyramid's second level has other cells than F.
        fits = maps and maps[0].shape[-2:] == views[0].feats[0].shape[-2:]
        if not fits or maps[0].shape[1] < 2 * self.num_keypoints or maps[0].shape[1] % self.num_keypoints:
            if not self._said_no_ae_maps:  # once, not for every batch
                print_log(
                    'ae_refinement is off: no AE heatmaps and tags come behind the features; set ae_channels='
                    f'{2 * self.num_keypoints} in the StackedFeatures neck of an AE backbone, or ae_refinement=False.',
                    logger='current',
                    level=30,
                )
            self._said_no_ae_maps = True
            return [None] * len(views[0].feats[0])
        heatmaps = [of_view[:, : self.num_keypoints] for of_view in maps]
        if len(heatmaps) > 1:
            plain = [view for view in views if not view.mirrored]
            heatmaps = [self.decoder.resample(of_view, view.input_size) for of_view, view in zip(heatmaps, plain)]
        return list(zip(torch.stack(heatmaps).mean(dim=0), maps[0][:, self.num_keypoints :]))

    def _decode(
        self, heatmaps: Tensor, stop_probabilities: Tensor, ae_maps: tuple[Tensor, Tensor] | None
    ) -> tuple[InstanceData, Tensor]:
        """One image's people and their heatmaps, but for those without a single kept joint, who are no poses."""
        keypoints, keypoint_scores, scores = self.decoder.decode((heatmaps, stop_probabilities))
        if ae_maps is not None:
            keypoints, keypoint_scores = self._fill_missing(keypoints, keypoint_scores, *ae_maps)
        kept = scores > 0
        poses = InstanceData(keypoints=keypoints[kept], keypoint_scores=keypoint_scores[kept], bbox_scores=scores[kept])
        return poses, heatmaps[torch.from_numpy(kept).to(heatmaps.device)]

    def _fill_missing(
        self, keypoints: np.ndarray, keypoint_scores: np.ndarray, heatmaps: Tensor, tags: Tensor
    ) -> tuple[np.ndarray, np.ndarray]:
        codec = self.decoder
        cells = torch.from_numpy(to_ae_cells(keypoints, codec.stride)).to(heatmaps.device)
        scores = torch.from_numpy(keypoint_scores).to(heatmaps.device)
        cells, filled = fill_missing(cells, scores, heatmaps, tags, codec.keypoint_threshold)
        return from_ae_cells(cells.cpu().numpy(), codec.stride), filled.cpu().numpy()

    @staticmethod
    def _as_pixel_data(heatmaps: Tensor) -> PixelData:
        heatmaps = heatmaps.float()  # who draws them knows no bfloat16
        nobody = heatmaps.new_zeros(1, *heatmaps.shape[1:])
        return PixelData(heatmaps=torch.cat([heatmaps, nobody]).amax(dim=0), instance_heatmaps=heatmaps.flatten(0, 1))

    def loss(self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Losses of a batch; with ``chunk_size`` set, back-propagated through the decoder chunk by chunk already.

        Args:
            feats (tuple[Tensor, ...]): from the neck.
            batch_data_samples (list[PoseDataSample]): with ``gt_instance_labels`` from the codec and, optionally,
                ``gt_fields.heatmap_mask`` (1, H, W).
            train_cfg (dict, optional): unused.

        Returns:
            dict: ``loss``, which is to be back-propagated, and its parts for the log.
        """
        features = self._features(feats)
        sequence = self._sequence(batch_data_samples, features)
        if self.chunk_size is None:
            (parts,) = sequence.chunks(*sequence.static_maps(features))
            total, parts = sum(parts.values()), {name: part.detach() for name, part in parts.items()}
        elif self.chunk_step is None:
            gates, parameters = sequence.static_maps(features), sequence.parameters()
            total, parts = backprop_in_chunks(sequence.chunks, gates, parameters, self.chunk_loss_scale)
        else:
            total, parts = backprop_with_steps(
                sequence.chunks_afresh, lambda: sequence.done, [features], sequence.parameters(), self.chunk_step
            )
        # Without 'loss' in their names the toolbox logs the parts and does not add them to the total again.
        return dict(loss=total, **parts)

    def _sequence(self, batch_data_samples: list, features: Tensor) -> TrainingSequence:
        rules = SequenceRules(
            self.stop_threshold, self.chunk_size, self.max_train_instances, self.max_surplus, self.first_lstm_loss
        )
        targets = self._targets(batch_data_samples, features)
        return TrainingSequence(
            self.first_lstm, self.heatmap_loss, self.stop_loss, targets, rules, self.second_lstm, self.curriculum
        )

    def _targets(self, batch_data_samples: list, features: Tensor) -> Targets:
        labels = [sample.gt_instance_labels for sample in batch_data_samples]
        for label in labels:
            if label.keypoint_labels.shape[1] != self.num_keypoints:
                raise ValueError(
                    f'The data has {label.keypoint_labels.shape[1]} keypoints per person, but the head was built for '
                    f'num_keypoints={self.num_keypoints}; make them equal.'
                )
        counts = [len(label.keypoint_labels) for label in labels]
        joints = pad_sequence([label.keypoint_labels for label in labels], batch_first=True).to(features.device)
        weights = pad_sequence([label.keypoint_weights for label in labels], batch_first=True).to(features.device)
        heatmaps = self.decoder.render(joints, weights)
        if heatmaps.shape[-2:] != features.shape[-2:]:
            raise ValueError(
                f'The codec draws heatmaps of {tuple(heatmaps.shape[:-3:-1])} cells, but the features have '
                f"{tuple(features.shape[:-3:-1])}; set the codec's heatmap_size to input_size / the neck's stride."
            )
        return Targets(heatmaps, weights, counts, self._mask(batch_data_samples, features.device))

    @staticmethod
    def _mask(batch_data_samples: list, device: torch.device) -> Tensor | None:
        masks = [getattr(sample.get('gt_fields'), 'heatmap_mask', None) for sample in batch_data_samples]
        given = [mask for mask in masks if mask is not None]
        if not given:
            return None
        everywhere = torch.ones_like(given[0])
        return torch.cat([everywhere if mask is None else mask for mask in masks]).to(device, torch.float32)
