"""The policy: it is built here, and its one forward returns the log-probabilities of completions."""
