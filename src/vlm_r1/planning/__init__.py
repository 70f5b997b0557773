"""Computes, without weights, whether a recipe fits on a GPU, what each phase needs, and what to change if not."""
