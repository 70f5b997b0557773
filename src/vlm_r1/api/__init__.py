"""What a notebook calls: `vlm_r1.train`, `sft`, `evaluate`, `ask`, `load_run` and `show` (docs/python.md)."""
