"""Importing the package registers everything, whichever test file runs alone."""

import torch

import rnnpose_plugin  # noqa: F401

# The tests' tensors are small; on a busy machine threads that wait for each other cost far more than they bring.
torch.set_num_threads(1)
