"""Checkpoints of other people as transformers loads them: none of their code is run, and what is wrong is said."""
