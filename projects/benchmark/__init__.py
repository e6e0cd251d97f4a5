"""Time, memory and operation counts of the decoder, as ratios measured in one run."""
