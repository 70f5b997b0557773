"""The offline page of a run: curves, before and after, and every group's boxes drawn on its image."""
