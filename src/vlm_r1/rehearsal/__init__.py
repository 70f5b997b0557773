"""`vlm-r1 train RECIPE --rehearse`: a whole run in a minute on a CPU, with a tiny random model of the same family."""
