"""The offline page of a run: curves, results before and after, and groups with their boxes drawn on the images."""
