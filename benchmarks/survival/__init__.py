"""Attacks on training runs: kills, failing system calls and damaged files (docs/reliability.md)."""
