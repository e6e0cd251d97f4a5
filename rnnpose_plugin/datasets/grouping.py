"""What MMPose's data sets keep of an image's people: segmentations that masks can be made of, and the annotated size.

MMPose 1.3.2 concatenates the segmentations of an image's people, and fails if they are of several kinds.
"""

from __future__ import annotations

from mmpose.datasets.datasets.base import BaseCocoStyleDataset

from .segmentation import usable_segmentation

_grouped = BaseCocoStyleDataset._get_bottomup_data_infos


def group_people(dataset: BaseCocoStyleDataset, instance_list: list[dict], image_list: list[dict]) -> list[dict]:
    """MMPose's ``_get_bottomup_data_infos``, which this replaces, for segmentations of any kind, also none.

    Args:
        dataset (BaseCocoStyleDataset): The data set.
        instance_list (list[dict]): Its people; ``segmentation`` is changed.
        image_list (list[dict]): Its images.

    Returns:
        list[dict]: Of each image MMPose's entries, with ``invalid_segs`` without useless ones, and ``annotated_size``,
        (height, width) in the annotation file, where that says it.
    """
    for person in instance_list:
        person['segmentation'] = usable_segmentation(person.get('segmentation'))
    sizes = {image['img_id']: (image.get('height'), image.get('width')) for image in image_list}
    data_list = _grouped(dataset, instance_list, image_list)
    for image in data_list:
        image['annotated_size'] = sizes.get(image['img_id'], (None, None))
        if 'invalid_segs' in image:
            image['invalid_segs'] = [segmentation for segmentation in image['invalid_segs'] if segmentation]
    return data_list


BaseCocoStyleDataset._get_bottomup_data_infos = group_people
