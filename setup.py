"""Packaging of rnnpose_plugin.

There is no install_requires: `pip install -e .` in a working MMPose environment must not change any of its packages,
and `import rnnpose_plugin` reports what is missing.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def read_version() -> str:
    """Reads __version__ without importing the package, whose import needs all of MMPose."""
    source = (ROOT / 'rnnpose_plugin' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", source, re.MULTILINE).group(1)


def read_section(name: str) -> list[str]:
    """Reads the pins of a section of requirements.txt; mmpose itself is in none, see there."""
    _, rest = (ROOT / 'requirements.txt').read_text().split(f'# --- {name}', 1)
    lines = (line.split('#')[0].strip() for line in rest.split('# ---')[0].splitlines()[1:])
    return [line for line in lines if line]


def read_long_description() -> str:
    """Reads the README up to its first second-level heading, without the figure, which is not in the package."""
    introduction = (ROOT / 'README.md').read_text(encoding='utf-8').split('\n## ')[0]
    return '\n\n'.join(part for part in introduction.split('\n\n') if not part.startswith(('![', '*Four')))


setup(
    name='rnnpose_plugin',
    version=read_version(),
    description='A recurrent decoder for bottom-up multi-person pose estimation, as a plugin for MMPose 1.x',
    long_description=read_long_description(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    keywords='human pose estimation, multi-person, bottom-up, ConvLSTM, MMPose',
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Image Recognition',
    ],
    python_requires='>=3.8',
    packages=find_packages(include=['rnnpose_plugin', 'rnnpose_plugin.*']),
    py_modules=['rnnpose_runtime'],  # stands alone: rnnpose_plugin imports MMPose
    extras_require={
        'toolbox': read_section('toolbox'),
        'export': read_section('export'),
        'runtime': ['numpy', 'onnxruntime'],
    },
    zip_safe=False,
)
