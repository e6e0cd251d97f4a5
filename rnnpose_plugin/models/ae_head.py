from __future__ import annotations

import torch
from mmengine.structures import InstanceData, PixelData
from mmpose.models.heads import AssociativeEmbeddingHead
from mmpose.models.utils.tta import aggregate_heatmaps, flip_heatmaps
from mmpose.registry import MODELS
from torch import Tensor


@MODELS.register_module()
class StackedAEHead(AssociativeEmbeddingHead):
    """The toolbox's Associative Embedding head on the outputs of a stacked hourglass, repaired so that it trains.

    The hourglass outputs the maps itself: in every stack the first K channels are heatmaps, the next ``tag_dim * K``
    tags; further ones (the paper's B) are not supervised. Every stack is supervised, as Newell et al. (2017) do.

    Repairs of MMPose 1.3.2: ``loss`` gave the heatmap loss weights of every person where it takes (B, K), and a mask
    without channel axis; ``predict`` refused the list that ``HourglassAENet`` returns with ``flip_test``, and did not
    resize maps without (MMPose issues #2933, #3218), and with ``multiscale_test`` it lacked an argument.

    Args:
        num_keypoints (int): K.
        tag_dim (int): tags per joint. Defaults to 1.
        keypoint_loss (dict): heatmap loss of one stack. Defaults to ``dict(type='KeypointMSELoss')``.
        tag_loss (dict): tag loss of one stack. Defaults to ``dict(type='AssociativeEmbeddingLoss')``.
        decoder (dict, optional): codec, a ``TrainableAssociativeEmbedding``. Defaults to None.
        init_cfg (dict, optional): initialisation. Defaults to None.
    """

    def __init__(
        self,
        num_keypoints: int,
        tag_dim: int = 1,
        keypoint_loss: dict = dict(type='KeypointMSELoss'),
        tag_loss: dict = dict(type='AssociativeEmbeddingLoss'),
        decoder: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(
            in_channels=num_keypoints * (1 + tag_dim),
            num_keypoints=num_keypoints,
            tag_dim=tag_dim,
            deconv_out_channels=None,
            final_layer=None,
            keypoint_loss=keypoint_loss,
            tag_loss=tag_loss,
            decoder=decoder,
            init_cfg=init_cfg,
        )

    def _split(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        ends = self.num_keypoints, self.num_keypoints * (1 + self.tag_dim)
        return stack[:, : ends[0]], stack[:, ends[0] : ends[1]]

    def forward(self, feats: list[Tensor] | tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Heatmaps and tags of the last stack.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): each stack's output, (B, C, H, W).

        Returns:
            tuple[Tensor, Tensor]: (B, K, H, W) and (B, tag_dim * K, H, W).
        """
        return self._split(feats[-1])

    def loss(
        self, feats: list[Tensor] | tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict | None = None
    ) -> dict:
        """Heatmap, pull and push losses, each summed over the stacks.

        Args:
            feats (list[Tensor] | tuple[Tensor, ...]): each stack's output, (B, C, H, W).
            batch_data_samples (list[PoseDataSample]): with the codec's ``gt_fields.heatmaps``,
                ``gt_instance_labels.keypoint_indices`` and, optionally, ``gt_fields.heatmap_mask``.
            train_cfg (dict, optional): unused.

        Returns:
            dict: ``loss_kpt``, ``loss_pull`` and ``loss_push``.
        """
        heatmaps = torch.stack([sample.gt_fields.heatmaps for sample in batch_data_samples])
        mask = None
        if 'heatmap_mask' in batch_data_samples[0].gt_fields:
            mask = torch.stack([sample.gt_fields.heatmap_mask for sample in batch_data_samples]).to(heatmaps)
        indices = [sample.gt_instance_labels.keypoint_indices for sample in batch_data_samples]
        losses = dict(loss_kpt=0, loss_pull=0, loss_push=0)
        for stack in feats:
            predicted, tags = self._split(stack)
            losses['loss_kpt'] += self.loss_module.keypoint_loss(predicted, heatmaps, None, mask)
            pull, push = self.loss_module.tag_loss(tags, indices)
            losses['loss_pull'] += pull
            losses['loss_push'] += push
        return losses

    def predict(self, feats: list, batch_data_samples: list, test_cfg: dict | None = None) -> list[InstanceData]:
        """As in the toolbox, for lists and tuples, with and without flip.

        Args:
            feats (list): as the toolbox's estimator passes them, single or multi scale.
            batch_data_samples (list[PoseDataSample]): of the batch.
            test_cfg (dict, optional): the toolbox's.

        Returns:
            list[InstanceData]: poses in pixels of the input image; with ``output_heatmaps`` also the maps.
        """
        test_cfg = test_cfg or {}
        multiscale_test, flip_test = test_cfg.get('multiscale_test', False), test_cfg.get('flip_test', False)
        if flip_test and not multiscale_test:
            return super().predict(_lists_to_tuples(feats), batch_data_samples, test_cfg)
        maps = self._averaged(feats if multiscale_test else [feats], batch_data_samples[0].metainfo, test_cfg)
        poses = self.decode(maps)
        if not test_cfg.get('output_heatmaps', False):
            return poses
        return poses, [PixelData(heatmaps=heatmaps, tags=tags) for heatmaps, tags in zip(*maps)]

    def _averaged(self, feats: list, metainfo: dict, test_cfg: dict) -> tuple[Tensor, Tensor]:
        """As Newell et al. (2017): heatmaps averaged over scales and views, tags of the main size, one per view."""
        flip_test = test_cfg.get('flip_test', False)
        views = [
            self._view(view, bool(mirrored), metainfo, test_cfg.get('shift_heatmap', False))
            for of_scale in feats
            for mirrored, view in enumerate(of_scale if flip_test else [of_scale])
        ]
        size = metainfo['img_shape'][::-1] if test_cfg.get('restore_heatmap_size', False) else None
        same = dict(size=size, align_corners=test_cfg.get('align_corners', False))
        heatmaps = aggregate_heatmaps([heatmaps for heatmaps, _ in views], mode='average', **same)
        tags = aggregate_heatmaps([tags for _, tags in views[: 1 + flip_test]], mode='concat', **same)
        return heatmaps, tags

    def _view(self, feats: list, mirrored: bool, metainfo: dict, shift: bool) -> tuple[Tensor, Tensor]:
        heatmaps, tags = self.forward(feats)
        if not mirrored:
            return heatmaps, tags
        flip = metainfo['flip_indices']
        heatmaps = flip_heatmaps(heatmaps, flip_mode='heatmap', flip_indices=flip, shift_heatmap=shift)
        return heatmaps, self._flip_tags(tags, flip_indices=flip, shift_heatmap=shift)


def _lists_to_tuples(feats: list) -> list:
    """Innermost sequences of tensors become tuples, which the toolbox asserts."""
    if isinstance(feats[0], Tensor):
        return tuple(feats)
    return [_lists_to_tuples(part) for part in feats]
