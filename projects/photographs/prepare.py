"""Make the training set of configs/rnnpose_movenet_photo.py out of small public sets: see README.md beside it."""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch

from rnnpose_plugin.datasets.keypoint_file import count_joints
from rnnpose_plugin.models.movenet_network import MoveNet

from ..occluded.occluded_set import write_occluded_set
from .mosaic import make_mosaic
from .singles import detect, make_single

VAL_SHARE = 0.15  # of the photographs of several people
SINGLE_VAL = 120  # images of single people for the composites of val
COMPOSITES = 40


def read_set(path: Path, prefix: str) -> list[tuple[str, list[dict]]]:
    """A COCO keypoint file.

    Args:
        path (Path): of the file.
        prefix (str): put before each image's name.

    Returns:
        list[tuple[str, list[dict]]]: name and annotations of each image with a labelled person, by id.
    """
    content = json.loads(path.read_text())
    people = defaultdict(list)
    for person in content['annotations']:
        people[person['image_id']].append(person)
    images = [(image, people[image['id']]) for image in sorted(content['images'], key=lambda image: image['id'])]
    return [(f'{prefix}/{image["file_name"]}', found) for image, found in images if any(map(count_joints, found))]


def write_set(path: Path, root: Path, images: list[tuple[str, list[dict]]]) -> None:
    """Write a COCO keypoint file with new ids.

    Args:
        path (Path): of the file.
        root (Path): folder of the images' names.
        images (list[tuple[str, list[dict]]]): name and annotations of each.
    """
    category = dict(id=1, name='person', supercategory='person', keypoints=COCO_JOINTS, skeleton=[])
    written = dict(images=[], annotations=[], categories=[category])
    for number, (name, people) in enumerate(images, start=1):
        height, width = cv2.imread(str(root / name)).shape[:2]
        written['images'].append(dict(id=number, file_name=name, width=width, height=height))
        for person in people:
            identity = dict(id=len(written['annotations']) + 1, image_id=number, category_id=1)
            written['annotations'].append({**person, **identity})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, separators=(',', ':')))
    print(f'{path}: {len(written["images"])} images, {len(written["annotations"])} annotations', flush=True)


COCO_JOINTS = ['nose'] + [
    f'{side}_{joint}'
    for joint in 'eye ear shoulder elbow wrist hip knee ankle'.split()
    for side in ('left', 'right')
]  # fmt: skip


def split(images: list, share: float, random: np.random.RandomState) -> tuple[list, list]:
    """Train and val part.

    Args:
        images (list): anything.
        share (float): of val.
        random (np.random.RandomState): where chance comes from.

    Returns:
        tuple[list, list]: train, val, both in their old order.
    """
    chosen = set(random.permutation(len(images))[: round(share * len(images))].tolist())
    return [p for i, p in enumerate(images) if i not in chosen], [images[i] for i in sorted(chosen)]


def load_network(path: str) -> MoveNet:
    """MoveNet with its weights.

    Args:
        path (str): what tools/convert_checkpoint.py wrote.

    Returns:
        MoveNet: in evaluation mode.
    """
    state = torch.load(path, map_location='cpu', weights_only=True)['state_dict']
    network = MoveNet()
    network.load_state_dict({name.removeprefix('backbone.network.'): value for name, value in state.items()})
    return network.eval()


def prepare_singles(
    network: MoveNet, root: Path, images: list, masks: int, with_others: bool
) -> list[tuple[str, list[dict]]]:
    """Every image of a single person that is kept.

    Args:
        network (MoveNet): with its weights.
        root (Path): folder of the images' names.
        images (list): names and annotations.
        masks (int): so many images, from the first on, get masks.
        with_others (bool): whether bystanders get MoveNet's sure joints as labels.

    Returns:
        list[tuple[str, list[dict]]]: names and annotations.
    """
    kept = []
    for number, (name, people) in enumerate(images):
        image = cv2.imread(str(root / name))
        done = make_single(detect(network, image), image, people[0], number < masks, with_others)
        kept += [] if done is None else [(name, done)]
        if number % 100 == 0:
            print(f'{number} of {len(images)} single people', file=sys.stderr, flush=True)
    return kept


def prepare_mosaics(root: Path, singles: list, groups: list, count: int, seed: int) -> list[tuple[str, list[dict]]]:
    """Mosaics, written to images/mosaic.

    Args:
        root (Path): folder of the images' names.
        singles (list): names and annotations; three of four tiles.
        groups (list): likewise; the others.
        count (int): number of mosaics.
        seed (int): 0 or more.

    Returns:
        list[tuple[str, list[dict]]]: names and annotations.
    """
    sources, made = singles + groups * max(1, len(singles) // (3 * len(groups))), []
    (root / 'mosaic').mkdir(exist_ok=True)
    for number in range(count):
        random = np.random.RandomState([seed, number])
        canvas, people = make_mosaic(sources, lambda name: cv2.imread(str(root / name)), random)
        name = f'mosaic/{number:06d}.jpg'
        cv2.imwrite(str(root / name), canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])
        made.append((name, people))
    return made


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ('coco-mini', 'coco-extra', 'lspet'):
        parser.add_argument(f'--{name}', type=Path, required=True, help=f'folder of {name}')
    parser.add_argument('--movenet', required=True, help='weights that tools/convert_checkpoint.py wrote')
    parser.add_argument('--out', type=Path, default=Path('data/photographs'), help='default: %(default)s')
    parser.add_argument('--singles', type=int, default=4000, help='images of single people (default: %(default)s)')
    parser.add_argument('--masks', type=int, default=2500, help='of them cut out (default: %(default)s)')
    parser.add_argument('--mosaics', type=int, default=4000, help='default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    return parser.parse_args()


def main() -> None:
    """Run the command."""
    args = parse_args()
    root, labels, random = args.out / 'images', args.out / 'annotations', np.random.RandomState(args.seed)
    root.mkdir(parents=True, exist_ok=True)
    links = dict(coco_mini=args.coco_mini / 'train2017', coco_extra=args.coco_extra / 'images',
                 lspet=args.lspet / 'images')  # fmt: skip
    for name, folder in links.items():
        if not (root / name).exists():
            (root / name).symlink_to(folder.resolve())
    train = 'annotations/person_keypoints_train2017.json'
    photographs = read_set(args.coco_extra / train, 'coco_extra') + read_set(args.coco_mini / train, 'coco_mini')
    groups, val = split(photographs, VAL_SHARE, random)
    write_set(labels / 'groups_train.json', root, groups)
    write_set(labels / 'groups_val.json', root, val)
    everyone = read_set(args.lspet / 'annotations/lspet_coco17_train.json', 'lspet')
    order = [everyone[i] for i in random.permutation(len(everyone))]
    network = load_network(args.movenet)
    single_val = prepare_singles(network, root, order[:SINGLE_VAL], SINGLE_VAL, with_others=False)
    write_set(labels / 'singles_val.json', root, single_val)
    write_occluded_set(str(labels / 'singles_val.json'), str(root), args.out / 'composites_val', (0.3, 0.7), COMPOSITES)
    rest = order[SINGLE_VAL : SINGLE_VAL + args.singles]
    singles = prepare_singles(network, root, rest, args.masks, with_others=True)
    write_set(labels / 'singles_train.json', root, singles)
    write_set(labels / 'mosaics_train.json', root, prepare_mosaics(root, singles, groups, args.mosaics, args.seed))


if __name__ == '__main__':
    main()
