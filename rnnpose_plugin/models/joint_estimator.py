from __future__ import annotations

from mmpose.registry import MODELS
from torch import Tensor

from .estimator import FreezableBottomupPoseEstimator


@MODELS.register_module()
class JointPoseEstimator(FreezableBottomupPoseEstimator):
    """Trains one backbone by AE's losses and a second head's, on one forward pass. Ours, not the paper's.

    The paper trains its decoder on the frozen features of an AE network (section 3.3). Here AE's losses go on, so that
    the maps behind the features keep their meaning, and the gradients of the recurrent head reach the backbone, through
    chunked backpropagation too. AE's head is not asked when testing; ``ae_refinement`` of the recurrent head uses its
    maps.

    Each sample needs the labels of both codecs: two ``GenerateTarget`` in the pipeline, AE's first.

    Args:
        ae_head (dict): config of an AE head on the backbone's outputs, such as ``StackedAEHead``.
        ae_loss_weight (float): factor on AE's losses, > 0. Defaults to 1.
        **kwargs: those of ``FreezableBottomupPoseEstimator``.

    Raises:
        ValueError: for a weight that is not positive, or a frozen backbone, which no loss would train.
    """

    def __init__(self, ae_head: dict, ae_loss_weight: float = 1.0, **kwargs) -> None:
        super().__init__(**kwargs)
        if self.freeze_backbone:
            raise ValueError(
                'freeze_backbone is True, but JointPoseEstimator trains the backbone; set it to False, or use '
                'FreezableBottomupPoseEstimator.'
            )
        if not ae_loss_weight > 0:
            raise ValueError(f'ae_loss_weight is {ae_loss_weight}; use a positive number.')
        self.ae_loss_weight = ae_loss_weight
        self.ae_head = MODELS.build(ae_head)

    def loss(self, inputs: Tensor, data_samples: list) -> dict:
        """Losses of both heads.

        Args:
            inputs (Tensor): (B, 3, h, w), preprocessed.
            data_samples (list[PoseDataSample]): with the labels of both codecs.

        Returns:
            dict: those of the head, its sum as ``decoder_loss``, and, times the weight, ``ae_loss_kpt``,
            ``ae_loss_pull`` and ``ae_loss_push``.

        Raises:
            ValueError: for samples without AE's labels.
        """
        if 'keypoint_indices' not in data_samples[0].gt_instance_labels:
            raise ValueError(
                'The samples have no keypoint_indices of AE; put a GenerateTarget with a TrainableAssociativeEmbedding '
                "before the InstanceHeatmap codec's in the training pipeline."
            )
        outputs = self.backbone(inputs)
        losses = self.head.loss(self.neck(outputs) if self.with_neck else outputs, data_samples, self.train_cfg)
        of_ae = self.ae_head.loss(outputs, data_samples)
        losses['decoder_loss'] = losses.pop('loss')  # MMEngine's own name for the sum of all
        return {**losses, **{f'ae_{name}': self.ae_loss_weight * loss for name, loss in of_ae.items()}}
