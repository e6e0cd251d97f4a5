"""Visualization: pictures of what the decoder does step by step. Not imported with the package: it needs matplotlib."""
