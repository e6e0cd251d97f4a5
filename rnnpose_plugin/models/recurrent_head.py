from __future__ import annotations

import math

import torch
from mmengine.logging import print_log
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import BaseHead
from mmpose.registry import KEYPOINT_CODECS, MODELS
from torch import Tensor

from .ae_maps import ae_maps_of, fill_missing_keypoints
from .chunked_backprop import backprop_in_chunks, backprop_with_steps
from .claiming_lstm import ClaimingLSTM
from .denoising import Denoising
from .first_lstm import FirstLSTM
from .head_arguments import check_arguments
from .head_targets import make_targets
from .head_views import decoded_views, read_test_settings, views_of_batch
from .peak_snapping import peak_maps_of, snap_people
from .second_lstm import SecondLSTM
from .training_controls import TrainingControls
from .training_sequence import SequenceRules, TrainingSequence
from .view_merging import View, merge_views, mirror_people


@MODELS.register_module()
class RecurrentPoseHead(BaseHead):
    """One person's heatmaps per step, until the stop probability falls below omega (paper, section 3).

    Wiring only: features -> norm -> :class:`FirstLSTM` (LSTM1) and, if asked for, :class:`SecondLSTM`
    (LSTM2); in training :class:`TrainingSequence` with the two losses, at inference the codec.

    Letters: B images, K keypoints, H x W cells, n people found in an image.

    Args:
        in_channels (int): channels of the neck's features.
        num_keypoints (int): K.
        decoder (dict): config of the codec (MMPose's name for it), an ``InstanceHeatmap``.
        hidden_channels (tuple[int, ...]): of the ConvLSTM layers. Defaults to (68, 34, 17).
        feedback_passes (int): passes per person. Defaults to 2.
        kernel_size (int): of the ConvLSTM's convolutions, odd. Defaults to 3.
        context (str): global context added to the gates: ``'none'`` as in the paper, ``'pooled'`` or ``'read'``, see
            :class:`GlobalContext`. Defaults to ``'none'``.
        layer_strides (tuple[int, ...], optional): cells of F along one side of a cell of each layer, see
            :class:`ConvLSTM`. Defaults to None, 1 for all, as in the paper.
        claimed_maps (bool): the decoder is shown which joints were claimed so far, see :class:`ClaimingLSTM`; not the
            paper's. Defaults to False.
        denoising (dict, optional): arguments of :class:`Denoising`, such as ``dict(share=1)``: steps on noised maps of
            a given person are trained too; not the paper's. Defaults to None.
        stop_threshold (float): omega, in (0, 1); ``test_cfg`` may set another. Defaults to sigmoid(-1), about 0.27.
        max_instances (int): most people per image, in training (longer sequences are cut) and at inference (with a
            warning). Defaults to 30, as in MMPose's AE configs.
        max_train_instances (int, optional): ends sequences earlier while training, the paper's "simply stopping after
            only 8 iterations" (section 3.2.1). Defaults to None, ``max_instances``.
        max_surplus (int, optional): while training, the most steps after z + 1. Defaults to None, no limit.
        chunk_size (int, optional): T of Algorithm 1: while training, each T people are back-propagated as soon as they
            are there and the hidden state goes on detached. None is the whole sequence at once, exact SGD (section
            4.1). Defaults to 8, the paper's.
        second_lstm (dict, optional): arguments of LSTM2, a :class:`SecondLSTM` (section 3.1.2), such as
            ``dict(order='learned')``; its heatmaps are then the output. Defaults to None, a single LSTM.
        first_lstm_loss (bool): False leaves equation 2 out, so that only LSTM2 is supervised (section 4.1). Defaults to
            True.
        feature_norm (dict, optional): config of the norm before the decoder; None for none. ``num_features`` is filled
            in. Defaults to ``dict(type='RunningFeatureNorm')``.
        heatmap_loss (dict): config. Defaults to ``dict(type='HungarianHeatmapLoss')``.
        stop_loss (dict): config. Defaults to ``dict(type='StopLoss')``.
        init_cfg (dict, optional): initialisation, see :class:`mmengine.model.BaseModule`. Defaults to None: torch's own
            for convolutions.

    Raises:
        ValueError: for settings out of range or that contradict each other.
    """

    _warned_of_ae_maps = _warned_of_max_instances = False

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
        claimed_maps: bool = False,
        denoising: dict | None = None,
        stop_threshold: float = 1 / (1 + math.e),
        max_instances: int = 30,
        max_train_instances: int | None = None,
        max_surplus: int | None = None,
        chunk_size: int | None = 8,
        second_lstm: dict | None = None,
        first_lstm_loss: bool = True,
        feature_norm: dict | None = dict(type='RunningFeatureNorm'),
        heatmap_loss: dict = dict(type='HungarianHeatmapLoss'),
        stop_loss: dict = dict(type='StopLoss'),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_arguments(stop_threshold, max_instances, max_train_instances, max_surplus, chunk_size, hidden_channels,
                        second_lstm, first_lstm_loss, claimed_maps, denoising, feedback_passes)  # fmt: skip
        self.in_channels, self.num_keypoints = in_channels, num_keypoints
        self.stop_threshold, self.first_lstm_loss = stop_threshold, first_lstm_loss
        self.max_instances, self.max_train_instances = max_instances, max_train_instances or max_instances
        self.max_surplus, self.chunk_size = max_surplus, chunk_size
        self.decoder = KEYPOINT_CODECS.build(decoder)
        self.norm = None if feature_norm is None else MODELS.build(dict(feature_norm, num_features=in_channels))
        first_lstm = ClaimingLSTM if claimed_maps else FirstLSTM
        self.first_lstm = first_lstm(in_channels, num_keypoints, hidden_channels, feedback_passes,
                                     kernel_size=kernel_size, context=context, layer_strides=layer_strides)  # fmt: skip
        self.second_lstm = None if second_lstm is None else SecondLSTM(in_channels, num_keypoints, **second_lstm)
        self.denoising = None if denoising is None else Denoising(self.decoder.render, num_keypoints, **denoising)
        self.heatmap_loss, self.stop_loss = MODELS.build(heatmap_loss), MODELS.build(stop_loss)
        self.training_controls = TrainingControls()

    def _features(self, feats: tuple[Tensor, ...]) -> Tensor:
        features = feats[0]
        if features.shape[1] != self.in_channels:
            raise ValueError(
                f'The head was built for in_channels={self.in_channels}, but the neck gives {features.shape[1]} '
                "channels; set the head's in_channels to the neck's out_channels."
            )
        return features if self.norm is None else self.norm(features)

    def forward(self, feats: tuple[Tensor, ...], stop_threshold: float | None = None) -> list[tuple[Tensor, Tensor]]:
        """The network's output before decoding.

        Args:
            feats (tuple[Tensor, ...]): from the neck; the first is F (B, C, H, W).
            stop_threshold (float, optional): omega. Defaults to None, the head's.

        Returns:
            list[tuple[Tensor, Tensor]]: for each image the heatmaps (n, K, H, W), LSTM2's if there is one, and stop
            probabilities (n,), LSTM1's.
        """
        features = self._features(feats)
        omega = stop_threshold or self.stop_threshold
        people, unfinished = self.first_lstm.decode_people(features, omega, self.max_instances)
        if unfinished and not self._warned_of_max_instances:  # an untrained model's every image
            self._warned_of_max_instances = True
            print_log(
                f'{len(unfinished)} of {len(people)} images had not stopped after max_instances='
                f'{self.max_instances} steps; raise max_instances if images show more people, or else train longer or '
                'check that the checkpoint was loaded, as an untrained model does not stop. Not reported again.',
                logger='current',
                level=30,
            )
        return people if self.second_lstm is None else self.second_lstm.refine_people(features, people)

    def predict(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, test_cfg: dict | None = None
    ) -> list[InstanceData] | tuple[list[InstanceData], list[PixelData]]:
        """Poses in input space, as MMPose's heads return them.

        Args:
            feats (tuple[Tensor, ...]): from the neck; with ``flip_test`` or ``multiscale_test`` lists of them, as
                ``BottomupPoseEstimator`` makes them.
            batch_data_samples (list[PoseDataSample]): of the batch; their metainfo has ``flip_indices`` and
                ``aug_scales`` where the settings need them.
            test_cfg (dict, optional): settings, see :func:`read_test_settings`. Defaults to None.

        Returns:
            list[InstanceData] | tuple[list[InstanceData], list[PixelData]]: for each image ``keypoints`` (n, K, 2) in
            pixels of the input image, ``keypoint_scores`` (n, K) and ``bbox_scores`` (n,), the instance score by which
            AP ranks; with heatmaps also ``heatmaps`` (K, H, W), the maximum over people, and ``instance_heatmaps``
            (n * K, H, W), person by person.

        Raises:
            ValueError: for a setting that is unknown, or that the samples do not support.
        """
        settings = read_test_settings(test_cfg)
        views = views_of_batch(feats, batch_data_samples[0].metainfo, settings, self.decoder)
        decoded, omega = decoded_views(views, settings), settings['stop_threshold']
        sequences = zip(*(self._people_of(view, decoded, batch_data_samples, omega) for view in decoded))
        merging = settings['unmatched'], settings['match_distance']
        people = [self._most_likely(*merge_views(list(of_image), *merging)) for of_image in sequences]
        ae_maps = (self._ae_maps(views) if settings['ae_refinement'] else None) or [None] * len(people)
        peaks = peak_maps_of(views[0].feats, self.num_keypoints) if settings['snap_to_peaks'] else [None] * len(people)
        least = settings['score_threshold']
        instances, heatmaps = zip(*(self._decode(*found, *maps, least) for found, *maps in zip(people, ae_maps, peaks)))
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
        read_test_settings(test_cfg)

    def _people_of(self, view: View, views: list[View], samples: list, omega: float) -> list[tuple[Tensor, Tensor]]:
        """Each image's people as one view shows them, mirrored back and on the codec's cells."""
        people = self.forward(view.feats, omega)
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

    def _ae_maps(self, views: list[View]) -> list[tuple[Tensor, Tensor]] | None:
        ae_maps = ae_maps_of(views, self.num_keypoints, self.decoder)
        if ae_maps is None and not self._warned_of_ae_maps:
            self._warned_of_ae_maps = True
            print_log(
                'ae_refinement is off: no AE heatmaps and tags come behind the features; set ae_channels='
                f'{2 * self.num_keypoints} in the StackedFeatures neck of an AE backbone, or ae_refinement=False.',
                logger='current',
                level=30,
            )
        return ae_maps

    def _decode(
        self, heatmaps: Tensor, stop_probabilities: Tensor, ae_maps: tuple | None, peaks: Tensor | None, least: float
    ) -> tuple[InstanceData, Tensor]:
        """One image's instances and their heatmaps, without those that keep no joint or score below the threshold."""
        poses = self.decoder.decode((heatmaps, stop_probabilities))
        if ae_maps is not None:
            poses = *fill_missing_keypoints(*poses[:2], *ae_maps, self.decoder), poses[2]
        if peaks is not None:
            poses = snap_people(poses, heatmaps, stop_probabilities, peaks, self.decoder.stride)
        kept = (poses[2] > 0) & (poses[2] >= least)
        keypoints, keypoint_scores, scores = (part[kept] for part in poses)
        people = InstanceData(keypoints=keypoints, keypoint_scores=keypoint_scores, bbox_scores=scores)
        return people, heatmaps[torch.from_numpy(kept).to(heatmaps.device)]

    @staticmethod
    def _as_pixel_data(heatmaps: Tensor) -> PixelData:
        heatmaps = heatmaps.float()  # the visualizer does not support bfloat16
        empty = heatmaps.new_zeros(1, *heatmaps.shape[1:])  # amax needs at least one map
        return PixelData(heatmaps=torch.cat([heatmaps, empty]).amax(dim=0), instance_heatmaps=heatmaps.flatten(0, 1))

    def loss(self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """Losses of a batch; with ``chunk_size`` set, already back-propagated through the LSTMs chunk by chunk.

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
        total, parts = self._backprop(sequence, features)
        # Without 'loss' in their names MMPose logs the parts and does not add them to the total again.
        return dict(loss=total, **parts)

    def _people_per_chunk(self) -> int | None:
        """T, or its part where an optimizer step accumulates; None, the whole sequence, where autograd is off."""
        if self.chunk_size is None or not torch.is_grad_enabled():
            return None
        step = self.training_controls.chunk_step
        return self.chunk_size if step is None else self.chunk_size // step.backprops

    def _sequence(self, batch_data_samples: list, features: Tensor) -> TrainingSequence:
        rules = SequenceRules(
            self.stop_threshold,
            self._people_per_chunk(),
            min(self.max_train_instances, self.training_controls.max_people or self.max_train_instances),
            self.max_surplus,
            self.first_lstm_loss,
        )
        targets = make_targets(batch_data_samples, self.decoder, self.num_keypoints, features)
        denoising = None if self.denoising is None else self.denoising.losses
        return TrainingSequence(
            self.first_lstm, self.heatmap_loss, self.stop_loss, targets, rules, self.second_lstm, denoising
        )

    def _backprop(self, sequence: TrainingSequence, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss and its detached parts."""
        step, parameters = self.training_controls.chunk_step, sequence.parameters()
        if sequence.rules.chunk_size is None:
            (parts,) = sequence.chunks(*sequence.static_maps(features))
            return sum(parts.values()), {name: part.detach() for name, part in parts.items()}
        if step is not None:
            return backprop_with_steps(sequence.chunks_afresh, lambda: sequence.done, [features], parameters, step)
        static_maps = sequence.static_maps(features)
        scale = self.training_controls.scale_of_chunks(features.device.type, self.chunk_size)
        return backprop_in_chunks(sequence.chunks, static_maps, parameters, scale)
