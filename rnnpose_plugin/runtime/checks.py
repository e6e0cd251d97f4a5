"""All checks before a run, in the order of their cost: settings, test-time views, annotation files and images, metrics.

Each of them refuses what MMEngine and MMPose would report minutes into an epoch, in other words, or not at all.
"""

from __future__ import annotations

from mmengine.config import Config

from .check_data import check_data
from .check_engine import check_engine
from .check_evaluation import check_evaluation
from .check_settings import check_settings
from .check_views import check_test_time_views, check_training_maps


def check_run(cfg: Config, training: bool) -> None:
    """Refuse a config that cannot run on this machine, with its data, as it says.

    Args:
        cfg (Config): The config, with all flags in it.
        training (bool): True for ``tools/train.py`` (training and validation), False for ``tools/test.py``.

    Raises:
        ValueError: for the first setting, pipeline or annotation that is wrong.
        FileNotFoundError: for an annotation file or an image that does not exist.
    """
    check_settings(cfg, training)
    check_engine(cfg, training)
    check_config(cfg, training)


def check_config(cfg: Config, training: bool) -> None:
    """Check only the data of a run, what their pipelines give the model, and the metrics.

    Args:
        cfg (Config): The config.
        training (bool): True for training and validation data, False for test data.

    Raises:
        ValueError: for the first pipeline or annotation that is wrong.
        FileNotFoundError: for an annotation file or an image that does not exist.
    """
    check_test_time_views(cfg, ('val',) if training else ('test',))
    if training:
        check_training_maps(cfg)
    check_data(cfg, training)
    check_evaluation(cfg, training)
