"""Shared by the command-line tools: reading a config, checks before a run, starting it, errors, checkpoint files."""
