from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import AssociativeEmbeddingHead
from mmpose.models.utils.tta import aggregate_heatmaps, flip_heatmaps
from mmpose.registry import MODELS
from torch import Tensor

from .head_targets import stacked_masks

# The keys of test_cfg: all that MMPose's head reads.
TEST_SETTINGS = (
    'align_corners',
    'flip_test',
    'multiscale_test',
    'output_heatmaps',
    'restore_heatmap_size',
    'shift_heatmap',
)


@MODELS.register_module()
class TrainableAEHead(AssociativeEmbeddingHead):
    """MMPose's Associative Embedding head with its own layers, for any backbone, repaired so that it trains.

    Arguments, layers and grouping are MMPose's own; as there, the layers stand on the last feature map.

    Repairs of MMPose 1.3.2: ``loss`` gave the heatmap loss weights of every person where it takes (B, K), and a mask
    without channel axis; ``predict`` refused lists with ``flip_test`` and tuples without, did not resize the maps
    without ``flip_test`` (MMPose issues #2933, #3218), and with ``multiscale_test`` lacked an argument; the one tag map
    of ``tag_per_keypoint=False`` did not reach the codec, which groups by a tag of each joint.

    Letters: B images, K keypoints, L = ``tag_dim`` tags per joint, H x W cells.

    Args:
        *args: those of MMPose's head.
        **kwargs: likewise.

    Raises:
        ValueError: for a ``decode_keypoint_order`` of the codec that does not name each keypoint once.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        order = list(getattr(self.decoder, 'decode_keypoint_order', range(self.num_keypoints)))
        if len(order) != self.num_keypoints or set(order) != set(range(self.num_keypoints)):
            raise ValueError(
                f"decode_keypoint_order={order} of the AE head's decoder has to name each of num_keypoints="
                f'{self.num_keypoints} keypoints, 0 to {self.num_keypoints - 1}, once; correct it in the codec.'
            )

    def forward(self, feats: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Heatmaps and tags.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): of the backbone or the neck, each (B, C, H, W); the last is used.

        Returns:
            tuple[Tensor, Tensor]: (B, K, H, W) and (B, L * K, H, W), tag by tag.
        """
        heatmaps, tags = super().forward(feats)
        return heatmaps, self._per_joint(tags)

    def _per_joint(self, tags: Tensor) -> Tensor:
        return tags if self.tag_per_keypoint else tags.repeat_interleave(self.num_keypoints, dim=1)

    def _supervised(self, feats: list[Tensor] | tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        """The pairs of heatmaps and tags that are supervised."""
        return [self.forward(feats)]

    def loss(
        self, feats: list[Tensor] | tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict | None = None
    ) -> dict:
        """Heatmap, pull and push losses, each summed over what is supervised.

        A joint that is not labelled asks for an empty place, as in Newell et al. (2017); only ``heatmap_mask`` frees
        cells. So ``use_target_weight`` of the heatmap loss, which MMPose's AE config sets, changes nothing.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): as :meth:`forward` takes them.
            batch_data_samples (list[PoseDataSample]): with the codec's ``gt_fields.heatmaps``,
                ``gt_instance_labels.keypoint_indices`` and, optionally, ``gt_fields.heatmap_mask``.
            train_cfg (dict, optional): unused.

        Returns:
            dict: ``loss_kpt``, ``loss_pull`` and ``loss_push``.

        Raises:
            ValueError: if the codec's maps or masks have another size than the network's.
        """
        fields = [sample.gt_fields for sample in batch_data_samples]
        target = torch.stack([field.heatmaps for field in fields])
        mask = stacked_masks(batch_data_samples, target)
        indices = [sample.gt_instance_labels.keypoint_indices for sample in batch_data_samples]
        losses = dict(loss_kpt=0, loss_pull=0, loss_push=0)
        for heatmaps, tags in self._supervised(feats):
            if heatmaps.shape != target.shape:
                raise ValueError(
                    f'The codec draws {target.shape[1]} heatmaps of {tuple(target.shape[:-3:-1])} cells, but the '
                    f'network gives {heatmaps.shape[1]} of {tuple(heatmaps.shape[:-3:-1])}; set num_keypoints to the '
                    "data's and the training codec's heatmap_size to input_size / the network's stride."
                )
            losses['loss_kpt'] += self.loss_module.keypoint_loss(heatmaps, target, None, mask)
            pull, push = self.loss_module.tag_loss(tags, indices)
            losses['loss_pull'] += pull
            losses['loss_push'] += push
        return losses

    def predict(
        self, feats: list | tuple, batch_data_samples: list, test_cfg: dict | None = None
    ) -> list[InstanceData] | tuple[list[InstanceData], list[PixelData]]:
        """As in MMPose, for lists and tuples, with and without flip and scales.

        Args:
            feats (list | tuple): as MMPose's estimator passes them: of one view; with ``flip_test`` a pair, the
                mirrored second; with ``multiscale_test`` a list of these, the main size first.
            batch_data_samples (list[PoseDataSample]): of the batch; their metainfo has ``flip_indices`` and
                ``img_shape`` where the settings need them.
            test_cfg (dict, optional): MMPose's.

        Returns:
            list[InstanceData] | tuple[list[InstanceData], list[PixelData]]: for each image ``keypoints`` (n, K, 2) in
            pixels of the input image, ``keypoint_scores`` (n, K) and ``bbox_scores`` (n,); with ``output_heatmaps``
            also ``heatmaps`` (K, H, W) and ``tags`` (L * K, H, W), with ``flip_test`` (2 * L * K, H, W).

        Raises:
            ValueError: for a setting that is unknown, or that the samples or the codec do not support.
        """
        self.check_test_settings(test_cfg)
        settings = {**dict.fromkeys(TEST_SETTINGS, False), **(test_cfg or {})}
        maps = self._averaged(feats, [sample.metainfo for sample in batch_data_samples], settings)
        self._check_codec(maps[0], batch_data_samples[0].metainfo)
        poses = self.decode(maps)
        if not settings['output_heatmaps']:
            return poses
        return poses, [PixelData(heatmaps=heatmaps, tags=tags) for heatmaps, tags in zip(*maps)]

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
            raise ValueError(f'test_cfg has unknown settings {sorted(unknown)}; known are {list(TEST_SETTINGS)}.')
        for name, value in (test_cfg or {}).items():  # the word 'no' would switch an option on
            if not isinstance(value, bool):
                raise ValueError(f'{name} is {value!r}; use True or False.')

    def _averaged(self, feats: list | tuple, metainfos: list[dict], settings: dict) -> tuple[Tensor, Tensor]:
        """As Newell et al. (2017): heatmaps averaged over scales and views, tags of the main size, one per view."""
        flip_indices = metainfos[0].get('flip_indices')
        if settings['flip_test'] and flip_indices is None:
            raise ValueError(
                'flip_test is True, but the samples have no flip_indices; add it to the meta_keys of PackPoseInputs.'
            )
        views = [
            self._view(view, flip_indices if mirrored else None, settings['shift_heatmap'])
            for of_scale in (feats if settings['multiscale_test'] else [feats])
            for mirrored, view in enumerate(of_scale if settings['flip_test'] else [of_scale])
        ]
        size = _shared_size(metainfos) if settings['restore_heatmap_size'] else None
        same = dict(size=size, align_corners=settings['align_corners'])
        heatmaps = aggregate_heatmaps([heatmaps for heatmaps, _ in views], mode='average', **same)
        of_main_size = views[: 2 if settings['flip_test'] else 1]
        return heatmaps, aggregate_heatmaps([tags for _, tags in of_main_size], mode='concat', **same)

    def _view(self, feats: list | tuple, flip_indices: list[int] | None, shift: bool) -> tuple[Tensor, Tensor]:
        """Maps of one view; with ``flip_indices`` it is a mirrored one, which is mirrored back."""
        heatmaps, tags = (
            maps.float() for maps in self.forward(feats)
        )  # the grouping uses numpy, which has no bfloat16
        if flip_indices is None:
            return heatmaps, tags
        heatmaps = flip_heatmaps(heatmaps, flip_mode='heatmap', flip_indices=flip_indices, shift_heatmap=shift)
        return heatmaps, self._flip_tags(tags, flip_indices=flip_indices, shift_heatmap=shift)

    def _check_codec(self, heatmaps: Tensor, metainfo: dict) -> None:
        """MMPose would silently place the joints at another scale."""
        if self.decoder is None or 'img_shape' not in metainfo or self.decoder.use_udp:
            return
        h, w = metainfo['img_shape']
        W, H = heatmaps.shape[-1], heatmaps.shape[-2]
        to_pixels = tuple(float(factor) for factor in self.decoder.scale_factor)
        if abs(W * to_pixels[0] - w) >= 1 or abs(H * to_pixels[1] - h) >= 1:
            raise ValueError(
                f"The maps of an image of {w} x {h} pixels have {W} x {H} cells, but the head's codec takes one for "
                f'{to_pixels[0]:g} x {to_pixels[1]:g} pixels; use restore_heatmap_size=True with a heatmap_size equal '
                "to input_size, or restore_heatmap_size=False with input_size / the network's stride."
            )


@MODELS.register_module()
class StackedAEHead(TrainableAEHead):
    """The Associative Embedding head for a backbone that outputs the maps itself, as the stacked hourglass does.

    It has no layers. In every stack the first K channels are heatmaps, the next L * K tags; further ones (the paper's
    B) are not supervised. Every stack is supervised, as Newell et al. (2017) do, and the last one gives the poses.

    Args:
        num_keypoints (int): K.
        tag_dim (int): L, tags per joint. Defaults to 1.
        tag_per_keypoint (bool): False where all joints share L tag maps. Defaults to True.
        keypoint_loss (dict): heatmap loss of one stack. Defaults to ``dict(type='KeypointMSELoss')``.
        tag_loss (dict): tag loss of one stack. Defaults to ``dict(type='AssociativeEmbeddingLoss')``.
        decoder (dict, optional): codec, a ``TrainableAssociativeEmbedding``. Defaults to None.
        init_cfg (dict, optional): initialisation. Defaults to None.
    """

    def __init__(
        self,
        num_keypoints: int,
        tag_dim: int = 1,
        tag_per_keypoint: bool = True,
        keypoint_loss: dict = dict(type='KeypointMSELoss'),
        tag_loss: dict = dict(type='AssociativeEmbeddingLoss'),
        decoder: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels=num_keypoints + tag_dim * (num_keypoints if tag_per_keypoint else 1),
            num_keypoints=num_keypoints,
            tag_dim=tag_dim,
            tag_per_keypoint=tag_per_keypoint,
            deconv_out_channels=None,
            final_layer=None,
            keypoint_loss=keypoint_loss,
            tag_loss=tag_loss,
            decoder=decoder,
            init_cfg=init_cfg,
        )

    def _split(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        if stack.shape[1] < self.in_channels:
            raise ValueError(
                f'{self.num_keypoints} heatmaps and their tags are {self.in_channels} channels, but the backbone '
                f"outputs {stack.shape[1]}; set the backbone's out_channels to at least {self.in_channels}, or use "
                'TrainableAEHead, which has layers of its own.'
            )
        tags = stack[:, self.num_keypoints : self.in_channels]
        return stack[:, : self.num_keypoints], self._per_joint(tags)

    def forward(self, feats: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Heatmaps and tags of the last stack.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): each stack's output, (B, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: (B, K, H, W) and (B, L * K, H, W), tag by tag.
        """
        return self._split(feats[-1])

    def _supervised(self, feats: list[Tensor] | tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
        return [self._split(stack) for stack in feats]


def _shared_size(metainfos: list[dict]) -> tuple[int, int]:
    """[w, h] of the batch's images in pixels."""
    shapes = {tuple(metainfo['img_shape']) for metainfo in metainfos}
    if len(shapes) > 1:
        raise ValueError(
            f'restore_heatmap_size=True, but the images of the batch have different img_shape {sorted(shapes)}; '
            "test with batch_size=1, or with resize_mode='fit' in BottomupResize."
        )
    ((h, w),) = shapes
    return w, h
