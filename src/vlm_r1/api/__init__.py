"""What a notebook calls: `vlm_r1.train`, `sft`, `evaluate`, `load_run` and `show` (docs/python.md)."""
