"""Decoding images step by step with a model from a config and a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from mmengine.registry import init_default_scope
from mmpose.apis import inference_bottomup
from mmpose.models.pose_estimators.base import BasePoseEstimator
from mmpose.registry import DATASETS
from mmpose.structures import PoseDataSample

from ..codecs import InstanceHeatmap
from ..runtime.launch import read_config
from ..runtime.predict import load_model
from ..runtime.progress import track

NOT_STEPS = ('flip_test', 'multiscale_test', 'snap_to_peaks', 'score_threshold')
PERSON_TITLE = 'person {}, score {:.2f}'


@dataclass
class DecodedImage:
    """One image and its n decoding steps.

    Args:
        title (str): name of the image file.
        image (np.ndarray): (h, w, 3) uint8, RGB.
        heatmaps (np.ndarray): (n, K, H, W), step by step.
        to_image (np.ndarray): (2, 3), the affine map from heatmap cells to pixels of the image.
        keypoints (np.ndarray): (n, K, 2), pixels of the image.
        keypoint_scores (np.ndarray): (n, K); 0 for a discarded joint.
        probabilities (np.ndarray): (n,), p of equation 1: the step shows a person; see ``NOT_STEPS``.
        skeleton (Sequence[tuple[int, int]]): pairs of joint indices that are connected by a line.
        step_title (str): format of a step's number and probability.
    """

    title: str
    image: np.ndarray
    heatmaps: np.ndarray
    to_image: np.ndarray
    keypoints: np.ndarray
    keypoint_scores: np.ndarray
    probabilities: np.ndarray
    skeleton: Sequence[tuple[int, int]]
    step_title: str = 'step {}, p = {:.2f}'


def first_test_images(config: str, number: int) -> list[str]:
    """The first images of a config's test set.

    Args:
        config (str): path of the config.
        number (int): of images, at most.

    Returns:
        list[str]: their paths.

    Raises:
        ValueError: for a number below 1.
        FileNotFoundError: if the config or its test set does not exist.
    """
    if number < 1:
        raise ValueError(f'--number {number}: draw at least 1 image')
    cfg = read_config(config)
    init_default_scope(cfg.get('default_scope', 'mmpose'))
    try:
        dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, indices=number, pipeline=[]))
    except (AssertionError, FileNotFoundError) as error:
        raise FileNotFoundError(f'the test set of {config} cannot be read ({error}); name images') from None
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]


def decode_images(config: str, checkpoint: str, paths: Sequence[str], device: str | None = None) -> list[DecodedImage]:
    """Decode images and report the progress on stderr.

    Args:
        config (str): path of a config with a ``RecurrentPoseHead``.
        checkpoint (str): path of its checkpoint.
        paths (Sequence[str]): image files.
        device (str, optional): where to compute. Defaults to an accelerator where there is one.

    Returns:
        list[DecodedImage]: one per image.

    Raises:
        ValueError: if the config has another head, which has no steps, or the checkpoint does not fit.
        FileNotFoundError: if the config, the checkpoint or an image does not exist.
    """
    for path in paths:
        if not Path(path).exists():
            raise FileNotFoundError(f'image {path} does not exist; check the path')
    model = load_model(config, checkpoint, device)
    model.test_cfg = {**(model.test_cfg or {}), 'output_heatmaps': True}
    codec = getattr(model.head, 'decoder', None)
    if not isinstance(codec, InstanceHeatmap):
        raise ValueError(f'{config} has a {type(model.head).__name__}, which has no steps; use a RecurrentPoseHead.')
    codec.instance_score = 'stop'  # the score of a person is then p itself
    return [_decode(model, codec, path) for path in track(list(paths), 'images decoded')]


def _decode(model: BasePoseEstimator, codec: InstanceHeatmap, path: str) -> DecodedImage:
    (sample,) = inference_bottomup(model, path)
    poses = sample.pred_instances
    heatmaps = sample.pred_fields.instance_heatmaps.cpu().numpy()
    K = model.head.num_keypoints
    return DecodedImage(
        title=Path(path).name,
        image=cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB),
        heatmaps=heatmaps.reshape(-1, K, *heatmaps.shape[-2:]),
        to_image=cells_to_image(codec, sample),
        keypoints=poses.keypoints,
        keypoint_scores=poses.keypoint_scores,
        probabilities=poses.bbox_scores,
        skeleton=model.dataset_meta['skeleton_links'],
        # With these settings the people are no longer the steps one by one, or their score is not p.
        step_title=PERSON_TITLE if any(map(model.test_cfg.get, NOT_STEPS)) else DecodedImage.step_title,
    )


def cells_to_image(codec: InstanceHeatmap, sample: PoseDataSample) -> np.ndarray:
    """The affine map from heatmap cells through the input space of the codec to pixels of the image.

    Args:
        codec (InstanceHeatmap): of the head.
        sample (PoseDataSample): its metainfo has ``input_size``, ``input_scale`` and ``input_center``.

    Returns:
        np.ndarray: (2, 3), determined by three points.
    """
    cells = np.array([[0, 0], [1, 0], [0, 1]], dtype=np.float32)
    meta = sample.metainfo
    size, scale, center = (np.asarray(meta[f'input_{name}'], np.float32) for name in ('size', 'scale', 'center'))
    pixels = codec.to_pixels(cells) / size * scale + center - 0.5 * scale
    return cv2.getAffineTransform(cells, pixels.astype(np.float32))
