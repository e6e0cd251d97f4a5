"""Packaging of rnnpose_plugin.

There is no install_requires: `pip install -e .` in a working MMPose environment must not change one of its packages,
and `import rnnpose_plugin` says what is missing.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Reads __version__ without importing the package, whose import needs the whole toolbox."""
    source = (ROOT / 'rnnpose_plugin' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", source, re.MULTILINE).group(1)


def read_toolbox() -> list[str]:
    """Reads the pins of the toolbox, the first section of requirements.txt; mmpose itself is not among them."""
    toolbox = (ROOT / 'requirements.txt').read_text().split('# --- tests and lint')[0]
    lines = (line.split('#')[0].strip() for line in toolbox.splitlines())
    return [line for line in lines if line]


setup(
    name='rnnpose_plugin',
    version=read_version(),
    description='Bottom-up human pose estimation one person at a time, as a plugin for MMPose 1.x',
    python_requires='>=3.8',
    packages=find_packages(include=['rnnpose_plugin', 'rnnpose_plugin.*']),
    extras_require={'toolbox': read_toolbox()},
    zip_safe=False,
)
