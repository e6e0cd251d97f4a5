"""From a checkpoint and image files to a sheet of steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from mmengine.utils import track_iter_progress
from mmpose.apis import inference_bottomup, init_model
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample

from ..codecs import InstanceHeatmap
from ..engine.checkpoint_fit_hook import refuse_misfit
from ..runtime.checkpoint_file import check_checkpoint_file
from .step_sheet import DecodedImage, draw_step_sheet


def first_test_images(config: str, number: int) -> list[str]:
    """The first images of a config's test set.

    Args:
        config (str): path of the config.
        number (int): how many at most.

    Returns:
        list[str]: their paths.
    """
    cfg = Config.fromfile(config)
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, indices=number, pipeline=[]))
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def draw_images(config: str, checkpoint: str, paths: Sequence[str], out: str, device: str | None = None) -> None:
    """Decode images and draw their sheet.

    Args:
        config (str): path of a config with a ``RecurrentPoseHead``.
        checkpoint (str): path of its checkpoint.
        paths (Sequence[str]): image files.
        out (str): the PNG to write; its folder is made.
        device (str, optional): where to compute. Defaults to an accelerator where there is one.

    Raises:
        ValueError: if the config has another head, which has no steps to draw, or the checkpoint does not fit.
    """
    options = dict(model=dict(test_cfg=dict(output_heatmaps=True)))
    check_checkpoint_file(checkpoint)
    model = init_model(config, None, device=device or get_device(), cfg_options=options)
    refuse_misfit(model, load_checkpoint(model, checkpoint, map_location='cpu'), checkpoint)
    codec = getattr(model.head, 'decoder', None)
    if not isinstance(codec, InstanceHeatmap):
        raise ValueError(f'{config} has a {type(model.head).__name__}, which has no steps; use a RecurrentPoseHead.')
    decoded = [_decode(model, codec, path) for path in track_iter_progress(list(paths))]
    print()
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    draw_step_sheet(decoded, model.dataset_meta['skeleton_links'], out)


def _decode(model, codec: InstanceHeatmap, path: str) -> DecodedImage:
    (sample,) = inference_bottomup(model, path)
    poses = sample.pred_instances
    heatmaps = sample.pred_fields.instance_heatmaps.cpu().numpy()
    K = model.head.num_keypoints
    return DecodedImage(
        title=Path(path).name,
        image=cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB),
        heatmaps=heatmaps.reshape(-1, K, *heatmaps.shape[-2:]),
        to_image=_cells_to_image(codec, sample),
        keypoints=poses.keypoints,
        keypoint_scores=poses.keypoint_scores,
        scores=poses.bbox_scores,
    )


def _cells_to_image(codec: InstanceHeatmap, sample: PoseDataSample) -> np.ndarray:
    """The affine map from cells through the codec's input space to the image, from where it takes three points."""
    cells = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    meta = sample.metainfo
    size, scale, center = (np.asarray(meta[f'input_{name}'], np.float32) for name in ('size', 'scale', 'center'))
    pixels = codec.to_pixels(cells) / size * scale + center - 0.5 * scale
    return cv2.getAffineTransform(cells, pixels.astype(np.float32))
