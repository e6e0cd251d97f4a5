"""Time and memory of the decoder as ratios of two runs that are timed in turns."""
