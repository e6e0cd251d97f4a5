"""Run one model of a comparison image by image; its predictions are kept in a file, so that a killed run resumes."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.runner import Runner
from mmpose.registry import METRICS
from torch.nn import Module

from projects.peak_memory import PeakMemory
from rnnpose_plugin.runtime.progress import track

from .contender import Contender

WARM_UP = 3  # runs of the first image before it is timed


class PredictionDump:
    """A file of predictions in JSON lines: a header with the identity of the run, then one line per image, in order.

    Only :meth:`append` changes the file.

    Args:
        path (str): the file.
        identity (dict): from :meth:`Contender.identity`.
        image_ids (Sequence[int]): of the data set, in its order.

    Raises:
        ValueError: if the file is not of this run.
    """

    def __init__(self, path: str, identity: dict, image_ids: Sequence[int]) -> None:
        self.path, self.identity, self.image_ids = Path(path), identity, list(image_ids)
        self.read()

    def read(self) -> None:
        """Read the lines in the file."""
        content = self.path.read_bytes() if self.path.exists() else b''
        self.size = content.rfind(b'\n') + 1  # without a line that was cut off while it was written
        self.lines = []
        if not self.size:
            return
        try:
            header, *lines = map(json.loads, content[: self.size].splitlines())
            self._check(header, [line['img_id'] for line in lines])
        except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError):
            raise ValueError(f'{self.path} is not a file of predictions; {self._cure()}') from None
        self.lines = lines[: len(self.image_ids)]

    def _check(self, header: dict, image_ids: list[int]) -> None:
        for part, (words, value) in self.identity.items():
            recorded, recorded_hash = header[part]
            if recorded_hash != value:
                changed = recorded == words
                difference = f'{recorded}, which has changed since' if changed else f'{recorded}, not {words}'
                raise ValueError(f'{self.path} holds predictions of another {part} ({difference}); {self._cure()}')
        if image_ids != self.image_ids[: len(image_ids)]:
            raise ValueError(f'{self.path} holds predictions of other images; {self._cure()}')

    @staticmethod
    def _cure() -> str:
        return 'give another --out to keep them, or --fresh to replace them'

    @property
    def finished(self) -> bool:
        """bool: whether every image has its line."""
        return len(self.lines) == len(self.image_ids)

    def append(self, line: dict) -> None:
        """Write the predictions of one image to the file.

        Args:
            line (dict): serialisable, with ``img_id``.
        """
        parts = [line] if self.size else [self.identity, line]
        content = ''.join(json.dumps(part) + '\n' for part in parts).encode()
        with self.path.open('ab') as file:
            file.truncate(self.size)
            file.write(content)
        self.size += len(content)
        self.lines.append(line)


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Keep every other process that asks for the same from writing to a file.

    Args:
        path (str | Path): the file; made where there is none.

    Raises:
        ValueError: if another process writes to it.
    """
    with open(path, 'ab') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f'another process is writing to {path}; wait until it has ended, or give another --out'
            ) from None
        except OSError:  # a file system without locks
            pass
        yield


class Stopwatch:
    """Seconds spent in a model, and those spent in its codec (arg max, grouping, non-maximum suppression).

    Without a codec all time counts as network. CUDA is synchronised before every reading.

    Args:
        model (Module): an estimator of MMPose; the methods of its codec are wrapped.
    """

    def __init__(self, model: Module) -> None:
        self.model = model
        self.decoding = 0.0
        self._inside = False
        codec = getattr(getattr(model, 'head', None), 'decoder', None)
        for name in ('decode', 'batch_decode'):
            if hasattr(codec, name):
                setattr(codec, name, self._timed(getattr(codec, name)))

    @torch.no_grad()
    def run(self, batch: dict) -> tuple[list, dict[str, float]]:
        """Run the model.

        Args:
            batch (dict): collated.

        Returns:
            tuple[list, dict[str, float]]: the data samples with predictions; seconds of ``network`` (all but the
            codec), ``decoding`` and ``total``.
        """
        self.decoding, begin = 0.0, self._now()
        samples = self.model.test_step(batch)
        total = self._now() - begin
        return samples, dict(network=total - self.decoding, decoding=self.decoding, total=total)

    def _timed(self, method):
        def timed(*args, **kwargs):
            if self._inside:  # batch_decode may call decode
                return method(*args, **kwargs)
            self._inside, begin = True, self._now()
            try:
                return method(*args, **kwargs)
            finally:
                self.decoding += self._now() - begin
                self._inside = False

        return timed

    @staticmethod
    def _now() -> float:
        if get_device() == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def open_dump(contender: Contender, path: str, limit: int | None = None) -> PredictionDump:
    """The predictions of a model on its test data, as far as an earlier run got.

    Args:
        contender (Contender): the model.
        path (str): the file.
        limit (int, optional): the first so many images only. Defaults to None, all.

    Returns:
        PredictionDump: with at most ``limit`` lines.
    """
    dataset = contender.build_dataset(pipeline=[])
    dump = PredictionDump(
        path, contender.identity(len(dataset)), [dataset.get_data_info(i)['img_id'] for i in range(len(dataset))]
    )
    dump.image_ids = dump.image_ids[:limit]
    dump.lines = dump.lines[:limit]
    return dump


def predict(contender: Contender, dump: PredictionDump) -> None:
    """Run a model on the images that are not in its dump yet, one at a time.

    Args:
        contender (Contender): the model.
        dump (PredictionDump): receives a line per image: ``img_id``, ``keypoints`` (n, K, 2) in pixels of the image,
            ``keypoint_scores`` (n, K), ``bbox_scores`` (n,), seconds of ``network``, ``decoding`` and
            ``total``, and the ``peak_mib`` of memory so far.

    Raises:
        ValueError: if another process writes to the dump.
    """
    if dump.finished:
        print(f'{contender.name}: 0 of {len(dump.image_ids)} images to do', flush=True)
        return
    with only_writer(dump.path):
        dump.read()  # another process may have gone on meanwhile
        _predict_rest(contender, dump)


def _predict_rest(contender: Contender, dump: PredictionDump) -> None:
    done, count = len(dump.lines), len(dump.image_ids)
    print(f'{contender.name}: {count - done} of {count} images to do', flush=True)
    model, _ = contender.build_model()
    watch = Stopwatch(model.to(get_device()))
    batches = _batches(contender, range(done, count))
    memory = PeakMemory(get_device())
    for number, batch in enumerate(track(batches, contender.name)):
        for _ in range(WARM_UP if number == 0 else 0):
            watch.run(batch)
        (sample,), seconds = watch.run(batch)
        dump.append(dict(_as_line(sample), **seconds, peak_mib=memory.read()))


def detections_of(contender: Contender, lines: Iterable[dict], metainfo: dict, ann_file: str) -> list[dict]:
    """Poses in COCO's format, ranked and without duplicates, by BottomupCocoMetric with the model's settings.

    Args:
        contender (Contender): the model.
        lines (Iterable[dict]): of its dump.
        metainfo (dict): of the data set.
        ann_file (str): of the data set.

    Returns:
        list[dict]: for COCO's ``loadRes``.
    """
    with TemporaryDirectory() as folder:
        prefix = os.path.join(folder, 'poses')
        settings = dict(contender.scoring, ann_file=ann_file, format_only=True, outfile_prefix=prefix)
        with redirect_stdout(None):  # pycocotools prints
            metric = METRICS.build(dict(settings, type='BottomupCocoMetric'))
        metric.dataset_meta = metainfo
        metric.process({}, [_as_sample(line, metainfo['num_keypoints']) for line in lines])
        metric.compute_metrics(metric.results)
        return json.loads(Path(f'{prefix}.keypoints.json').read_text())


def _batches(contender: Contender, indices: Iterable[int]):
    loader = {
        key: contender.cfg.test_dataloader[key] for key in ('collate_fn',) if key in contender.cfg.test_dataloader
    }
    dataset = contender.build_dataset(indices=list(indices))
    # One image at a time, read in this process, so that nothing else runs while an image is timed.
    return Runner.build_dataloader(
        dict(
            loader,
            dataset=dataset,
            batch_size=1,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        )
    )


def _as_line(sample) -> dict:
    poses = sample.pred_instances
    scores = poses.bbox_scores if 'bbox_scores' in poses else np.ones(len(poses.keypoints))
    parts = dict(keypoints=poses.keypoints, keypoint_scores=poses.keypoint_scores, bbox_scores=scores)
    lists = {name: torch.as_tensor(part).cpu().numpy().tolist() for name, part in parts.items()}
    return dict(img_id=int(sample.img_id), **lists)


def _as_sample(line: dict, num_keypoints: int) -> dict:
    poses = dict(
        keypoints=np.reshape(line['keypoints'], (-1, num_keypoints, 2)),
        keypoint_scores=np.reshape(line['keypoint_scores'], (-1, num_keypoints)),
        bbox_scores=np.asarray(line['bbox_scores'], dtype=np.float64),
    )
    # With an id that is not a list the metric takes the poses for those of one person and keeps one of them.
    return dict(id=[line['img_id']], img_id=line['img_id'], pred_instances=poses, gt_instances={})
