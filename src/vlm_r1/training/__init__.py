"""Shared by both trainers: the learner, opening a run in the right order, trust checks and held-out evaluations."""
