"""Predictions of a bottom-up model as files, for ``tools/predict.py``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
from mmengine.device import get_device
from mmengine.structures import InstanceData
from mmpose.apis import inference_bottomup, init_model
from mmpose.models import BottomupPoseEstimator

from ..engine.checkpoint_fit_hook import refuse_misfit
from ..shipped import find_shipped
from .checkpoint_file import check_checkpoint_file, whole_file
from .launch import read_config
from .output_files import refuse_overwriting
from .prediction_drawing import DRAWN, Drawing
from .prediction_inputs import Images, Video, find_inputs
from .progress import track as progress_of
from .restricted_load import read_checkpoint
from .tracking import Tracker

FILES = ('results.json', 'by_image.json', 'images.json')


def predict(
    inputs: str,
    config: str,
    checkpoint: str,
    out: str,
    score_threshold: float = 0.0,
    draw: bool = False,
    device: str | None = None,
    track: bool = False,
) -> dict[str, int]:
    """Predict the people of images, of a video or of a camera, until it is stopped, and write them below a folder.

    ``results.json`` holds COCO's results of all images, ``by_image.json`` the same by the image's name, with an empty
    list for an image without people, and ``images.json`` the images and the category in COCO's annotation format.
    What has been predicted is written even if a later image fails or the command is stopped.

    Args:
        inputs (str): As of ``find_inputs``.
        config (str): Path of a config of a bottom-up model, or the name of a shipped one.
        checkpoint (str): Its checkpoint.
        out (str): The folder, made if it is not there.
        score_threshold (float): People with a lower score are left out. Defaults to 0.
        draw (bool): Whether to draw the people into copies of the images, or of the video, in ``drawn``. Defaults to
            False.
        device (str, optional): Where to compute. Defaults to an accelerator where there is one.
        track (bool): Whether people of a video get a ``track_id``, and are drawn in a colour by it. Defaults to False.

    Returns:
        dict[str, int]: number of ``images`` and of ``people``.

    Raises:
        FileNotFoundError: for a missing input, config or checkpoint.
        ValueError: for other bad arguments; at the end, for images that could not be read.
    """
    if not math.isfinite(score_threshold):
        raise ValueError(f'--score-threshold {score_threshold} is not a number; scores are between 0 and 1')
    source = find_inputs(inputs)
    if track and not isinstance(source, Video):
        raise ValueError(f'--track follows people from frame to frame, but {inputs} is not a video; leave --track out')
    _check_out(source, out)
    refuse_overwriting([Path(out, name) for name in FILES], [find_shipped(config), find_shipped(checkpoint)])
    model = load_model(config, checkpoint, device)
    drawing = Drawing(model.dataset_meta, source, Path(out, DRAWN)) if draw else None
    predictions = Predictions(model.dataset_meta, Tracker(model.dataset_meta['sigmas']) if track else None)
    try:
        for number, name, image in progress_of(source, 'images'):
            if image is None:
                continue
            (sample,) = inference_bottomup(model, image)
            people = sample.pred_instances[scores_of(sample.pred_instances) >= score_threshold]
            found = predictions.add(number, name, image.shape[:2], people)
            if drawing is not None:
                drawing.add(name, image, people, [person['track_id'] for person in found] if track else None)
    finally:
        if drawing is not None:
            drawing.close()
        predictions.write(out)
    if source.unreadable:
        others = f'; {len(source.unreadable)} of {len(source)} images could not be read, the others are in {out}'
        raise ValueError(source.unreadable[0] + others)
    return dict(images=len(predictions.images), people=len(predictions.results))


def load_model(config: str, checkpoint: str, device: str | None = None) -> BottomupPoseEstimator:
    """Build a bottom-up model and load its weights.

    Args:
        config (str): Path of the config, or the name of a shipped one.
        checkpoint (str): Path of the checkpoint.
        device (str, optional): Defaults to an accelerator where there is one.

    Returns:
        BottomupPoseEstimator: with ``dataset_meta`` of the checkpoint, or of the config if that has none.

    Raises:
        FileNotFoundError: if one of the files does not exist.
        ValueError: if the model is top-down, the weights do not fit it, or the data set has other keypoints.
    """
    checkpoint = find_shipped(checkpoint)
    cfg = read_config(config)
    check_checkpoint_file(checkpoint)
    if cfg.get('model') is None:
        raise ValueError(f'config {config} has no model; give the config of a training')
    model = init_model(cfg, None, device=device or get_device())
    if not isinstance(model, BottomupPoseEstimator):
        raise ValueError(
            f'{config} has a {type(model).__name__}, which needs the boxes of a detector; use a bottom-up model, or '
            "MMPose's demo: python -m rnnpose_plugin inferencer_demo"
        )
    loaded = read_checkpoint(checkpoint)
    refuse_misfit(model, loaded, checkpoint)
    model.dataset_meta = (loaded.get('meta') or {}).get('dataset_meta') or model.dataset_meta
    described, K = model.dataset_meta['num_keypoints'], getattr(model.head, 'num_keypoints', None)
    if K is not None and described != K:
        raise ValueError(
            f'model.head.num_keypoints={K}, but the data set {model.dataset_meta["dataset_name"]} has {described} '
            "keypoints; use the data set's metainfo that the model was trained with"
        )
    return model


def scores_of(people: InstanceData) -> np.ndarray:
    """The score of each person, by which people are ranked and filtered.

    Args:
        people (InstanceData): of an image.

    Returns:
        np.ndarray: (N,), ``bbox_scores``, or the mean score of the keypoints of models without them.
    """
    scores = people.get('bbox_scores')
    return np.asarray(people.keypoint_scores.mean(axis=-1) if scores is None else scores).reshape(-1)


class Predictions:
    """The people of all images so far, in COCO's results format.

    Args:
        meta (dict): metainfo of the data set.
        tracker (Tracker, optional): Gives each person a ``track_id``. Defaults to None.
    """

    def __init__(self, meta: dict, tracker: Tracker | None = None) -> None:
        names = [meta['keypoint_id2name'][k] for k in range(meta['num_keypoints'])]
        skeleton = [[a + 1, b + 1] for a, b in meta.get('skeleton_links', [])]  # COCO counts from 1
        self.category = dict(id=1, name='person', keypoints=names, skeleton=skeleton)
        self.images: list[dict] = []
        self.results: list[dict] = []
        self.by_image: dict[str, list[dict]] = {}
        self.tracker = tracker

    def add(self, number: int, name: str, size: tuple[int, int], people: InstanceData) -> list[dict]:
        """Add the people of an image.

        Args:
            number (int): id of the image.
            name (str): of the image.
            size (tuple[int, int]): height and width.
            people (InstanceData): ``keypoints`` (N, K, 2), ``keypoint_scores`` (N, K) and the scores.

        Returns:
            list[dict]: its N results.
        """
        self.images.append(dict(id=number, file_name=name, height=size[0], width=size[1]))
        joints = np.concatenate([people.keypoints, people.keypoint_scores[..., None]], axis=-1)
        found = [
            dict(image_id=number, category_id=1, keypoints=flat.tolist(), score=float(score))
            for flat, score in zip(joints.reshape(len(joints), 3 * joints.shape[1]).astype(float), scores_of(people))
        ]
        if self.tracker is not None:
            for person, track_id in zip(found, self.tracker.update(found)):
                person['track_id'] = track_id
        self.results += found
        self.by_image[name] = found
        return found

    def write(self, out: str) -> None:
        """Write the files, each under a temporary name first.

        Args:
            out (str): the folder, made if it is not there.
        """
        Path(out).mkdir(parents=True, exist_ok=True)
        truth = dict(images=self.images, annotations=[], categories=[self.category])
        for name, content in zip(FILES, (self.results, self.by_image, truth)):
            with whole_file(str(Path(out, name))) as file:
                file.write(json.dumps(content).encode())


def _check_out(source: Images | Video, out: str) -> None:
    if os.path.exists(out) and not os.path.isdir(out):
        raise ValueError(f'--out {out} is a file; give a folder')
    below = os.path.join(os.path.realpath(out), DRAWN, '')
    inside = [path for path in source.paths if os.path.realpath(path).startswith(below)]
    if inside:
        raise ValueError(f'the input {inside[0]} is in {below}, where drawn images are written; give another --out')
