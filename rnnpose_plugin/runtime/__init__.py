"""What the command-line tools share: reading a config, checking the input, starting a run, reporting an error."""
