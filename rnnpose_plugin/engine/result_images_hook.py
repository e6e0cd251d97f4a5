"""Images of a test's predictions, for ``tools/test.py --show-dir``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mmcv
import mmengine.fileio as fileio
from mmengine.runner import Runner
from mmpose.engine.hooks import PoseVisualizationHook
from mmpose.registry import HOOKS
from mmpose.structures import PoseDataSample, merge_data_samples

WRITABLE = ('.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp')


@HOOKS.register_module()
class ResultImagesHook(PoseVisualizationHook):
    """MMPose's hook, for tests on images with any name.

    MMPose's fails on a name without extension and on one that OpenCV cannot write; both become PNG files here. All
    arguments are those of MMPose's hook.
    """

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict, outputs: Sequence[PoseDataSample]
    ) -> None:
        """Draw each image with its poses.

        Args:
            runner (Runner): The runner of the testing process.
            batch_idx (int): Index of the batch.
            data_batch (dict): The batch. Not used.
            outputs (Sequence[PoseDataSample]): The predictions.
        """
        if not self.enable:
            return
        folder = Path(runner.work_dir, runner.timestamp, self.out_dir)
        folder.mkdir(parents=True, exist_ok=True)
        self._visualizer.set_dataset_meta(runner.test_evaluator.dataset_meta)
        for sample in outputs:
            self._test_index += 1
            image = mmcv.imfrombytes(fileio.get(sample.img_path, backend_args=self.backend_args), channel_order='rgb')
            self._visualizer.add_datasample(
                'test_img', image, data_sample=merge_data_samples([sample]), draw_gt=False, draw_bbox=True,
                draw_heatmap=True, kpt_thr=self.kpt_thr, out_file=str(free_name(folder, sample.img_path)),
                step=self._test_index,
            )  # fmt: skip


def free_name(folder: Path, image: str) -> Path:
    """A new file for the drawn image: ``NAME_0.jpg`` for ``NAME.jpg``, ``NAME_1.jpg`` where that is there.

    Args:
        folder (Path): where to.
        image (str): path of the image.

    Returns:
        Path: the file.
    """
    name = Path(image)
    stem, suffix = (name.stem, name.suffix) if name.suffix.lower() in WRITABLE else (name.name, '.png')
    number = 0
    while (folder / f'{stem}_{number}{suffix}').exists():
        number += 1
    return folder / f'{stem}_{number}{suffix}'
