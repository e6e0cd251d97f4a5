"""The sheet of steps: heatmaps are aligned with the image, and the file can be read."""

import cv2
import numpy as np
import pytest
from mmengine.structures import InstanceData
from mmpose.structures import PoseDataSample

from rnnpose_plugin.codecs import InstanceHeatmap
from rnnpose_plugin.visualization.image_steps import DecodedImage, cells_to_image, decode_images, first_test_images
from rnnpose_plugin.visualization.step_sheet import _overlay, check_sheet_path, draw_step_sheet

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


def test_a_file_name_is_not_a_formula(tmp_path):
    image = decoded(1)
    image.title = 'a_$x^{$_\\frac.png'
    draw_step_sheet([image], str(tmp_path / 'sheet.png'))
    assert (tmp_path / 'sheet.png').exists()


def test_the_sheet_never_replaces_what_it_is_drawn_from(tmp_path):
    image, link = tmp_path / 'image.png', tmp_path / 'link.png'
    image.write_bytes(b'image')
    link.symlink_to(image)
    for path in (image, link, tmp_path / 'image', tmp_path / 'new' / '..' / 'image.png'):
        (tmp_path / 'new').mkdir(exist_ok=True)
        with pytest.raises(ValueError, match='would be overwritten, but it is read'):
            check_sheet_path(str(path), ['gone.py', str(image)])
    for path in ('sheet.png', 'sheet', 'sheet.pdf', 'link2.png'):
        check_sheet_path(str(tmp_path / path), [str(image)])


def test_a_sheet_that_cannot_be_written_is_refused_before_the_decoding(tmp_path):
    with pytest.raises(ValueError, match='ends in .foo, which cannot be drawn; use .png'):
        check_sheet_path('sheet.foo', [])
    (tmp_path / 'sheet.png').mkdir()
    with pytest.raises(ValueError, match='is a folder'):
        check_sheet_path(str(tmp_path / 'sheet.png'), [])


def test_images_that_do_not_exist_are_named_before_the_decoding(tmp_path):
    config = tmp_path / 'config.py'
    config.write_text("test_dataloader = dict(dataset=dict(type='CocoDataset', ann_file='gone.json'))")
    with pytest.raises(FileNotFoundError, match='image gone.png does not exist; check the path'):
        decode_images(str(config), 'gone.pth', ['gone.png'])
    with pytest.raises(FileNotFoundError, match=r'test set of .*config.py cannot be read \(.*gone.json.*\); name'):
        first_test_images(str(config), 2)
    with pytest.raises(ValueError, match='--number 0: draw at least 1 image'):
        first_test_images(str(config), 0)
    with pytest.raises(FileNotFoundError, match="config 'gone.py' does not exist"):
        first_test_images('gone.py', 2)


def test_no_image_is_refused(tmp_path):
    with pytest.raises(ValueError, match='no image'):
        draw_step_sheet([], str(tmp_path / 'sheet.png'))
