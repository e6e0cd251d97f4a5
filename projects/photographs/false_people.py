"""False detections: scores of a model on images without people.

python -m projects.photographs.false_people CONFIG CHECKPOINT FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from mmpose.apis import inference_bottomup, init_model

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def highest_scores(config: str, checkpoint: str, paths: list[Path]) -> np.ndarray:
    """The surest person of each image.

    Args:
        config (str): path of the config.
        checkpoint (str): path of its weights.
        paths (list[Path]): images.

    Returns:
        np.ndarray: the best score of each image, 0 without detections.
    """
    model = init_model(config, checkpoint, device='cpu')
    highest = []
    for path in paths:
        (sample,) = inference_bottomup(model, str(path))
        highest.append(max(np.ravel(sample.pred_instances.bbox_scores), default=0.0))
    return np.array(highest)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ('config', 'checkpoint', 'folder'):
        parser.add_argument(name)
    args = parser.parse_args()
    paths = sorted(path for path in Path(args.folder).iterdir() if path.suffix in ('.png', '.jpg'))
    scores = highest_scores(args.config, args.checkpoint, paths)
    print(f'{len(paths)} images without people; with a detection at a score of')
    for threshold in THRESHOLDS:
        print(f'  {threshold:.1f} and more: {(scores > 0).sum() if not threshold else (scores >= threshold).sum()}')
    for place in np.argsort(-scores)[:5]:
        print(f'{scores[place]:.2f} {paths[place].name}')


if __name__ == '__main__':
    main()
