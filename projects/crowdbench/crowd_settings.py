"""Settings of synthetic crowds."""

from __future__ import annotations

from dataclasses import dataclass

SCENES = ('plain', 'occluded', 'crowded')


@dataclass(frozen=True)
class CrowdSettings:
    """Settings of the images.

    Args:
        image_size: Side of the square images in pixels, at least 48.
        min_people: Fewest people in a plain or occluded image (at least 2 in the latter).
        max_people: Most people in such an image.
        min_height: Least standing height of a person as a fraction of the image side.
        max_height: Greatest standing height, likewise.
        max_tilt: Greatest rotation of a person in degrees, either way, 0..90.
        occluded_fraction: Probability that an image of ``train`` or ``val`` holds an occluded pair, 0..1.
        crowded_fraction: Probability that it is crowded instead, 0..1.
        crowded_min_people: Fewest people in a crowded image, at any positions.
        crowded_max_people: Most people in a crowded image.
        crowded_min_height: As ``min_height``, in a crowded image.
        crowded_max_height: As ``max_height``, in a crowded image.
        plain_max_iou: Greatest IoU of any two boxes in an image without an occluded pair.
        occluded_min_iou: The boxes of an occluded pair have a greater IoU than this.
        truncated_fraction: Probability that a person is placed without regard to the image border, 0..1.
        same_clothes_fraction: Probability that a person wears the colours of another one in the image, 0..1.
        min_visible: Least visible fraction of each silhouette within the image, 0..1.
        min_visible_joints: Fewest joints with flag 2 per person, 0..17.
        min_labelled_joints: Fewest joints inside the image per person, 0..17.
        max_clutter: Most plain shapes in a background.

    Raises:
        ValueError: If a value is out of range or two of them contradict each other.
    """

    image_size: int = 64
    min_people: int = 1
    max_people: int = 3
    min_height: float = 0.6
    max_height: float = 0.95
    max_tilt: float = 20.0
    occluded_fraction: float = 0.4
    crowded_fraction: float = 0.0
    crowded_min_people: int = 6
    crowded_max_people: int = 12
    crowded_min_height: float = 0.35
    crowded_max_height: float = 0.55
    plain_max_iou: float = 0.3
    occluded_min_iou: float = 0.5
    truncated_fraction: float = 0.2
    same_clothes_fraction: float = 0.3
    min_visible: float = 0.15
    min_visible_joints: int = 5
    min_labelled_joints: int = 8
    max_clutter: int = 4

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_pairs()

    def _check_ranges(self) -> None:
        """Refuse single values out of range."""
        ranges = dict(image_size=(48, 4096), min_people=(1, 50), max_people=(1, 50), min_height=(0.2, 2),
                      max_height=(0.2, 2), crowded_min_people=(1, 50), crowded_max_people=(1, 50),
                      crowded_min_height=(0.2, 2), crowded_max_height=(0.2, 2), max_tilt=(0, 90),
                      max_clutter=(0, 1000), min_visible_joints=(0, 17), min_labelled_joints=(0, 17))  # fmt: skip
        fractions = ('occluded_fraction', 'crowded_fraction', 'plain_max_iou', 'occluded_min_iou',
                     'truncated_fraction', 'same_clothes_fraction', 'min_visible')  # fmt: skip
        for name, (low, high) in {**ranges, **dict.fromkeys(fractions, (0, 1))}.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f'{name} is {value}: choose a value from {low} to {high}.')
            if isinstance(getattr(type(self), name), int) and not isinstance(value, int):
                raise ValueError(f'{name} is {value}: choose a whole number.')

    def _check_pairs(self) -> None:
        """Refuse contradicting values."""
        pairs = ('min_people', 'max_people'), ('min_height', 'max_height')
        for least, most in (*pairs, *((f'crowded_{least}', f'crowded_{most}') for least, most in pairs)):
            low, high = getattr(self, least), getattr(self, most)
            if low > high:
                raise ValueError(f'{least} {low} is greater than {most} {high}: lower {least} or raise {most}.')
        if self.max_people < 2 and self.occluded_fraction > 0:
            raise ValueError(
                f'occluded_fraction is {self.occluded_fraction} but max_people is {self.max_people}: '
                'set occluded_fraction to 0 or max_people to 2 or more.'
            )
        if self.occluded_fraction + self.crowded_fraction > 1:
            raise ValueError(
                f'occluded_fraction {self.occluded_fraction} and crowded_fraction {self.crowded_fraction} are more '
                'than 1 together: lower one of them.'
            )

    def heights(self, scene: str) -> tuple[float, float]:
        """Least and greatest standing height in an image.

        Args:
            scene: One of ``SCENES``.

        Returns:
            Both in pixels.
        """
        low, high = self.min_height, self.max_height
        if scene == 'crowded':
            low, high = self.crowded_min_height, self.crowded_max_height
        return low * self.image_size, high * self.image_size
