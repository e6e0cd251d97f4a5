from __future__ import annotations

from mmengine.structures import InstanceData
from mmpose.models.heads import BaseHead
from mmpose.registry import MODELS
from torch import Tensor

from .movenet_decoding import find_people
from .movenet_network import HEADS

TEST_SETTINGS = ('flip_test', 'multiscale_test', 'output_heatmaps')


@MODELS.register_module()
class MoveNetHead(BaseHead):
    """MoveNet's own decoding as a head without layers: the baseline of this backbone.

    It takes a ``MoveNetBackbone`` with ``levels=MoveNetHead.LEVELS`` and no neck, and it cannot be trained.

    Args:
        max_instances (int): most people per image; the published graph has 6. Defaults to 30, that of the other
            heads.
        centre_threshold (float): a lower peak of the centre map is not a person, from 0 to below 1. Defaults to 0.1.
        score_threshold (float): people with a lower score are left out. Defaults to 0.
        init_cfg (dict, optional): unused, as there are no weights. Defaults to None.

    Raises:
        ValueError: for a setting out of range.
    """

    LEVELS = tuple(HEADS)

    def __init__(
        self,
        max_instances: int = 30,
        centre_threshold: float = 0.1,
        score_threshold: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not isinstance(max_instances, int) or max_instances < 1:
            raise ValueError(f'max_instances is {max_instances!r}; allow at least 1 person per picture.')
        for name, value in (('centre_threshold', centre_threshold), ('score_threshold', score_threshold)):
            if not 0 <= value < 1:
                raise ValueError(f'{name} is {value!r}; it is compared with scores, choose 0 or more and less than 1.')
        self.max_instances = max_instances
        self.centre_threshold = centre_threshold
        self.score_threshold = score_threshold

    def forward(self, feats: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """The maps by their names.

        Args:
            feats (tuple[Tensor, ...]): the backbone's levels in the order of ``LEVELS``, each (B, channels, H, W).

        Returns:
            dict[str, Tensor]: as :meth:`MoveNet.forward` gives them, without the features.

        Raises:
            ValueError: for other levels.
        """
        channels = [level.shape[1] for level in feats]
        if channels != list(HEADS.values()):
            raise ValueError(
                f'MoveNetHead got levels of {channels} channels; set levels={self.LEVELS} in the MoveNetBackbone and '
                'leave the neck out.'
            )
        return dict(zip(HEADS, feats))

    def predict(
        self, feats: tuple[Tensor, ...], batch_data_samples: list, test_cfg: dict | None = None
    ) -> list[InstanceData]:
        """Poses in input space.

        Args:
            feats (tuple[Tensor, ...]): as :meth:`forward` takes them.
            batch_data_samples (list[PoseDataSample]): of the batch, unused.
            test_cfg (dict, optional): settings, see :meth:`check_test_settings`.

        Returns:
            list[InstanceData]: for each picture ``keypoints`` (n, K, 2) in pixels of the input image,
            ``keypoint_scores`` (n, K) and ``bbox_scores`` (n,).
        """
        self.check_test_settings(test_cfg)
        maps = self.forward(feats)
        return [
            self._decode({name: level[image].float() for name, level in maps.items()}) for image in range(len(feats[0]))
        ]

    def _decode(self, maps: dict[str, Tensor]) -> InstanceData:
        people = find_people(maps, self.max_instances, self.centre_threshold)
        kept = people.scores >= max(self.score_threshold, 1e-6)  # without a keypoint that counts the score is 0
        return InstanceData(
            keypoints=people.keypoints[kept].cpu().numpy(),
            keypoint_scores=people.keypoint_scores[kept].cpu().numpy(),
            bbox_scores=people.scores[kept].cpu().numpy(),
        )

    @staticmethod
    def check_test_settings(test_cfg: dict | None) -> None:
        """Refuse a ``test_cfg`` that this head cannot do: all of its settings have to be off.

        Args:
            test_cfg (dict, optional): the model's.

        Raises:
            ValueError: for a setting that is unknown or on.
        """
        for name, value in (test_cfg or {}).items():
            if name not in TEST_SETTINGS or value:
                raise ValueError(
                    f'test_cfg has {name}={value!r}, but MoveNetHead decodes one view and gives no maps; leave it out.'
                )

    def loss(self, feats: tuple[Tensor, ...], batch_data_samples: list, train_cfg: dict | None = None) -> dict:
        """There is none.

        Args:
            feats (tuple[Tensor, ...]): unused.
            batch_data_samples (list[PoseDataSample]): unused.
            train_cfg (dict, optional): unused.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError('MoveNetHead has no layers and no loss; train a RecurrentPoseHead on this backbone.')
