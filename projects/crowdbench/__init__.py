"""CrowdBench, a synthetic benchmark of crowded images, and the training jobs on synthetic crowds."""
