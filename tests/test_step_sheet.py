"""The sheet of steps: heatmaps are aligned with the image, and the file can be read."""

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from rnnpose_plugin.codecs import InstanceHeatmap
from rnnpose_plugin.visualization.image_steps import DecodedImage, cells_to_image
from rnnpose_plugin.visualization.step_sheet import _overlay, draw_step_sheet

CODEC = InstanceHeatmap((64, 64), (16, 16))


def sample():
    """A 128 x 96 image, fitted into 64 x 64, centred."""
    data = PoseDataSample(metainfo=dict(input_size=(64, 64), input_center=(64.0, 48.0), input_scale=(128.0, 128.0)))
    data.pred_instances = InstanceData()
    return data


def decoded(people):
    heatmaps = np.zeros((people, 3, 16, 16), np.float32)
    heatmaps[:, :, 8, 4] = 1
    return DecodedImage(
        title='image',
        image=np.full((96, 128, 3), 128, np.uint8),
        heatmaps=heatmaps,
        to_image=cells_to_image(CODEC, sample()),
        keypoints=np.full((people, 3, 2), 40.0),
        keypoint_scores=np.ones((people, 3)),
        probabilities=np.ones(people),
        skeleton=[(0, 1), (1, 2)],
    )


def test_a_cell_lands_where_the_estimator_puts_its_keypoint():
    cell = np.array([4.0, 8.0])
    # MMPose's add_pred_to_datasample: input space to image.
    pixel = CODEC.to_pixels(cell) / 64 * 128 + np.array([64.0, 48.0]) - 64
    np.testing.assert_allclose(cells_to_image(CODEC, sample()) @ [*cell, 1], pixel, atol=1e-4)
    overlay = _overlay(decoded(1), 0)
    y, x = np.unravel_index(overlay.sum(-1).argmax(), overlay.shape[:2])
    assert abs(x - pixel[0]) <= 1 and abs(y - pixel[1]) <= 1


@pytest.mark.parametrize('people', [0, 1, 9])
def test_the_sheet_is_written_for_any_number_of_people(people, tmp_path):
    draw_step_sheet([decoded(people), decoded(1)], str(tmp_path / 'new' / 'sheet.png'))
    assert cv2.imread(str(tmp_path / 'new' / 'sheet.png')).std() > 5


def test_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no image'):
        draw_step_sheet([], str(tmp_path / 'sheet.png'))
