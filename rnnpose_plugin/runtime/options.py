"""``--cfg-options KEY=VALUE``: MMEngine's values, with the blanks inside them kept."""

from __future__ import annotations

import argparse
import re
from typing import Any

from mmengine.config import DictAction

BLANK = '\0'  # cannot be part of a command line


class OptionAction(DictAction):
    """MMEngine's ``DictAction`` removes every blank, so that a path with one would become another path."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: list, option_string: str = ''
    ) -> None:
        """Parse options into a dict.

        Args:
            parser (ArgumentParser): the tool's parser.
            namespace (Namespace): receives the dict.
            values (list[str]): each ``KEY=VALUE``.
            option_string (str): the flag. Defaults to ''.
        """
        options = dict(getattr(namespace, self.dest) or {})
        for value in values:
            key, equals, text = value.partition('=')
            if not equals or not key.strip():
                parser.error(f'{option_string} {value}: write KEY=VALUE, in quotes where VALUE has blanks')
            try:
                options[key.strip()] = parse_value(text)
            except AssertionError:
                parser.error(f'{option_string} {value}: a bracket is not closed')
        for key in options:
            whole = [other for other in options if key.startswith(f'{other}.')]
            if whole and not isinstance(options[whole[0]], (list, tuple)):
                parser.error(f'{option_string} {key} is a part of {whole[0]}={options[whole[0]]}; give one of them')
        setattr(namespace, self.dest, options)


def parse_value(text: str) -> Any:
    """A value as MMEngine reads it: a number, True, False, None, a list, a tuple or a string.

    Args:
        text (str): such as ``[1, 2]`` or ``/x/my data/``; blanks beside commas and brackets do not count.

    Returns:
        Any: the value.
    """
    text = text.strip().strip('\'"').strip()
    if ',' in text or text[:1] in ('[', '('):
        text = re.sub(r'\s*,\s*|(?<=[\[(])\s+|\s+(?=[\])])', lambda blank: blank.group().strip(), text)
    return _with_blanks(DictAction._parse_iterable(text.replace(' ', BLANK)))


def _with_blanks(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(map(_with_blanks, value))
    return value.replace(BLANK, ' ') if isinstance(value, str) else value
