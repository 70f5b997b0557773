"""What every trainer stands on: the learner, a run's parts opened in the right order, and its held-out evaluations."""
