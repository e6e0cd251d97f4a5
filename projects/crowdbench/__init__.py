"""A synthetic benchmark of crowded images, and the training jobs on it."""
