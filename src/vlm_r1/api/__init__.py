"""What a notebook calls: `vlm_r1.evaluate`, `vlm_r1.load_run` and `vlm_r1.show` (docs/python.md)."""
