"""Bottom-up human pose estimation that outputs one person's keypoints per step and learns when to stop, as a plugin
for MMPose 1.x. Importing this package registers its models, codecs, transforms, metrics and hooks in MMPose's
registries, so a config only needs ``custom_imports = dict(imports=['rnnpose_plugin'])``.
"""

from __future__ import annotations

from . import compat

__version__ = '0.1.0'

compat.check_requirements()
compat.apply()
compat.check_mmpose()

from . import codecs, datasets, engine, evaluation, mmpose_changes, models, shipped  # noqa: E402, F401

mmpose_changes.draw_circles_of_one_radius()
shipped.register()
