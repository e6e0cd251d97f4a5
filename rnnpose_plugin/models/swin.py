from __future__ import annotations

import re

from mmengine.runner import CheckpointLoader
from mmpose.models.backbones import SwinTransformer
from mmpose.models.backbones.utils.ckpt_convert import swin_converter
from mmpose.registry import MODELS


@MODELS.register_module()
class LoadableSwinTransformer(SwinTransformer):
    """MMPose's Swin, repaired so that weights given by ``init_cfg`` arrive. Its arguments are the same.

    MMPose 1.3.2 takes the original release's file, ``{'model': weights}``, for the weights themselves, and expects no
    ``backbone.`` where its converter has just put one: no tensor is loaded, and only a line in the log says so.
    """

    def init_weights(self, pretrained: str | None = None) -> None:
        """Load the weights of ``init_cfg``, else initialise as MMPose does.

        Args:
            pretrained (str, optional): unused, as in MMPose. Defaults to None.

        Raises:
            ValueError: if the file lacks weights other than the norms behind each stage, which only MMPose has.
        """
        if not isinstance(self.init_cfg, dict) or self.init_cfg['type'] != 'Pretrained':
            super().init_weights()
            return
        path = self.init_cfg['checkpoint']
        weights = CheckpointLoader.load_checkpoint(path, map_location='cpu')
        weights = weights.get('state_dict', weights.get('model', weights))
        if self.convert_weights:
            weights = swin_converter(weights)
        weights = {name.removeprefix('backbone.'): value for name, value in weights.items()}
        absent = self.load_state_dict(weights, strict=False).missing_keys
        absent = [name for name in absent if not re.fullmatch(r'norm\d\.(weight|bias)', name)]
        if absent:
            raise ValueError(
                f'{path} lacks {len(absent)} weights of this Swin, such as {absent[0]}; use convert_weights=True for '
                "files of the original release and False for MMPose's, and the depths the file was made with."
            )
