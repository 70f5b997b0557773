"""Will a recipe fit on a GPU: what it needs, phase by phase, and what to change if it does not; without weights."""
