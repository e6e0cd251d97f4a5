"""Images of more people than allowed are replaced, and only labelled people count."""

import json

import numpy as np
import pytest
from mmpose.registry import DATASETS, TRANSFORMS

from rnnpose_plugin.datasets.small_groups import SmallGroups


def sample_of(labelled_joints, iscrowd=None):
    """A sample as MMPose's data sets pass it to the pipeline, by number of labelled joints per annotation."""
    visible = np.zeros((len(labelled_joints), 17), dtype=np.float32)
    for person, joints in zip(visible, labelled_joints):
        person[:joints] = 1
    return dict(keypoints_visible=visible, iscrowd=iscrowd or [0] * len(visible))


@pytest.mark.parametrize(
    ('sample', 'passes'),
    [
        (sample_of([]), True),
        (sample_of([1, 17]), True),
        (sample_of([1, 17, 3]), False),
        (sample_of([1, 17, 0]), True),  # the third has no labelled joint and is not a target
        (sample_of([1, 17, 3], iscrowd=[0, 0, 1]), True),
        (dict(keypoints_visible=np.ones((3, 17))), False),
        (sample_of([1, 17, 3, 0], iscrowd=[0, 0, 0, 1]), False),
    ],
)
def test_only_people_count(sample, passes):
    result = SmallGroups(max_people=2)(sample)
    assert result is sample if passes else result is None


@pytest.mark.parametrize('max_people', [0, -1])
def test_a_limit_below_one_is_refused(max_people):
    with pytest.raises(ValueError, match=f'max_people is {max_people}; allow at least 1'):
        TRANSFORMS.build(dict(type='SmallGroups', max_people=max_people))


def test_the_data_set_draws_another_image(tmp_path):
    """Through MMPose's own data set: three images of 1, 2 and 3 annotations, one of them a crowd region."""
    joints = [10, 10, 2] * 17
    counts = {1: 1, 2: 2, 3: 3}
    people = [dict(image_id=image, iscrowd=0) for image, count in counts.items() for _ in range(count)]
    people[1]['iscrowd'] = 1
    for number, person in enumerate(people):
        person.update(id=number + 1, category_id=1, keypoints=joints, num_keypoints=17, bbox=[1, 1, 20, 20], area=400)
    images = [dict(id=i, file_name=f'{i}.png', width=64, height=64) for i in counts]
    category = dict(id=1, name='person', keypoints=[], skeleton=[])
    file = tmp_path / 'a.json'
    file.write_text(json.dumps(dict(images=images, annotations=people, categories=[category])))

    pipeline = [dict(type='SmallGroups', max_people=1)]
    dataset = DATASETS.build(dict(type='CocoDataset', ann_file=str(file), data_mode='bottomup', pipeline=pipeline))
    assert len(dataset) == 3
    np.random.seed(0)
    drawn = [{dataset[i]['img_id'] for _ in range(20)} for i in range(3)]
    assert drawn == [{1}, {2}, {1, 2}]
