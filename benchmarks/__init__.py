"""Programs that measure and print; each writes the JSON it is asked for and nothing else."""
