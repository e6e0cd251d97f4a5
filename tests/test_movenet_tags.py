"""The tags made of MoveNet's centres and regression, against loops, and what they are for: telling people apart."""

import numpy as np
import pytest
import torch

from rnnpose_plugin.models.movenet_network import HEADS
from rnnpose_plugin.models.movenet_tags import LEAST_CENTRE, OWN_SLOPE_WEIGHT, SLOPE, SPREAD, centre_tags, slopes

K = 17


def blank(rows, columns):
    return {name: torch.zeros(1, channels, rows, columns, dtype=torch.float64) for name, channels in HEADS.items()}


def put_person(maps, row, column, joints, size=10.0, height=0.8):
    """A centre whose regression points at joints (K, 2) y, x in cells."""
    maps['centre'][0, 0, row, column] = height
    maps['box_scale'][0, :, row, column] = size
    maps['regression'][0, :, row, column] = (
        torch.as_tensor(joints, dtype=torch.float64) - torch.tensor([row, column])
    ).ravel()


def naive_tags(maps, centres):
    rows, columns = maps['centre'].shape[-2:]
    side = max(rows, columns)

    def slope(r, c):
        y, x = (r + 0.5 - rows / 2) / side, (c + 0.5 - columns / 2) / side
        return SLOPE * np.array([x + y / 2, y - x / 2])

    tags = np.zeros((2, K, rows, columns))
    for k in range(K):
        for r in range(rows):
            for c in range(columns):
                total, weight = OWN_SLOPE_WEIGHT * slope(r, c), OWN_SLOPE_WEIGHT
                for i, j in centres:
                    y, x = (p + maps['regression'][0, 2 * k + a, i, j].item() for a, p in enumerate((i, j)))
                    size = np.sqrt(np.prod([max(maps['box_scale'][0, a, i, j].item(), 1) for a in (0, 1)]))
                    spread = SPREAD[0] + SPREAD[1] * size
                    near = np.exp(-((r - y) ** 2 + (c - x) ** 2) / (2 * spread**2)) * maps['centre'][0, 0, i, j].item()
                    total, weight = total + near * slope(i, j), weight + near
                tags[:, k, r, c] = total / weight
    return tags.reshape(2 * K, rows, columns)


def test_tags_are_the_loops():
    random = np.random.RandomState(0)
    maps, centres = blank(10, 14), [(2, 3), (7, 4), (5, 11)]
    for row, column in centres:
        put_person(maps, row, column, random.uniform(0, 10, (K, 2)), size=random.uniform(0.5, 9))
    maps['centre'][0, 0, 9, 13] = 0.9 * LEAST_CENTRE  # too low to count
    (tags,) = centre_tags(maps)
    # The network's maps are float32, and so are the tags; a wrong weight changes them by hundredths.
    assert np.allclose(tags, naive_tags(maps, centres), atol=1e-5)


def test_joints_of_one_person_agree_and_of_two_differ():
    maps = blank(16, 24)
    left, right = np.full((K, 2), 8.0), np.full((K, 2), 8.0)
    left[:, 1], right[:, 1] = np.linspace(2, 10, K), np.linspace(12, 20, K)
    put_person(maps, 8, 6, left)
    put_person(maps, 8, 16, right)
    first, second = centre_tags(maps)[0].reshape(2, K, 16, 24)
    joints = torch.arange(K)
    for person, centre in ((left, (8, 6)), (right, (8, 16))):
        found = first[joints, 8, torch.from_numpy(person[:, 1]).round().long()]
        expected = slopes(torch.tensor(centre[0]), torch.tensor(centre[1]), 16, 24)[0]
        assert (found - expected).abs().max() < 0.4  # the two centres are 2.5 apart
    assert first[0, 0, 23] == pytest.approx(float(slopes(torch.tensor(0), torch.tensor(23), 16, 24)[0]), abs=0.2)
    assert second.shape == first.shape


def test_nobody_leaves_the_slopes():
    (tags,) = centre_tags(blank(6, 8))
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(8), indexing='ij')
    expected = slopes(rows, columns, 6, 8).repeat_interleave(K, dim=0)
    assert torch.allclose(tags, expected.to(tags), atol=1e-6)
