"""A training set of photographs of people who overlap, made of small public sets."""

import rnnpose_plugin  # noqa: F401  (before mmpose, whose import it prepares)
