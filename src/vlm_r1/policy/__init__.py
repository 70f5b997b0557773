"""The policy: prompts as a model takes them, and the one function that returns completion log-probabilities."""
