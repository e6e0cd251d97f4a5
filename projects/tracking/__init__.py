"""Synthetic videos with known identities, and how well ids of predicted people follow them."""
