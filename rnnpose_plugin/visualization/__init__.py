"""Visualization of the decoding steps. Not imported with the package, as it needs matplotlib."""
