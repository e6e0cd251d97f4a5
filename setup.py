"""Packaging of rnnpose_plugin.

There is no install_requires: `pip install -e .` in a working MMPose environment must not change any of its packages,
and `import rnnpose_plugin` reports what is missing.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent


def read_version() -> str:
    """Reads __version__ without importing the package, whose import needs all of MMPose."""
    source = (ROOT / 'rnnpose_plugin' / '__init__.py').read_text()
    return re.search(r"^__version__ = '(.+)'$", source, re.MULTILINE).group(1)


def read_extras() -> dict[str, list[str]]:
    """Reads the sections of requirements.txt, each an extra; mmpose itself is not among them."""
    text = (ROOT / 'requirements.txt').read_text()
    _, *sections = re.split(r'^# --- (\w+).*$', text, flags=re.MULTILINE)
    extras = {}
    for name, section in zip(sections[::2], sections[1::2]):
        lines = (line.split('#')[0].strip() for line in section.splitlines())
        extras[name] = [line for line in lines if line]
    return extras


def read_long_description() -> str:
    """Reads the README up to its first second-level heading, without the figure, which is not in the package."""
    introduction = (ROOT / 'README.md').read_text(encoding='utf-8').split('\n## ')[0]
    return '\n\n'.join(part for part in introduction.split('\n\n') if not part.startswith(('![', '*Four')))


class BuildWithFiles(build_py):
    """Puts configs, tools, models and their index into the wheel, in a folder `.mim` as MMPose does."""

    def run(self) -> None:
        """Builds the modules, then copies the files beside them."""
        super().run()
        if getattr(self, 'editable_mode', False):
            return
        target = Path(self.build_lib, 'rnnpose_plugin', '.mim')
        shutil.rmtree(target, ignore_errors=True)
        for name in ('configs', 'model_zoo', 'tools'):
            shutil.copytree(ROOT / name, target / name, ignore=left_out)
        shutil.copy(ROOT / 'model-index.yml', target)


def left_out(folder: str, names: list[str]) -> list[str]:
    """Tells copytree what stays in the repository: caches, and tools that need projects/, which is not installed."""
    need_projects = [
        name
        for name in names
        if name.endswith('.py') and 'from projects' in Path(folder, name).read_text(encoding='utf-8')
    ]
    return ['__pycache__', *need_projects]


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
    extras_require={**read_extras(), 'runtime': ['numpy', 'onnxruntime']},
    cmdclass={'build_py': BuildWithFiles},
    zip_safe=False,
)
