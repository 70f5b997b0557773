"""Questions about pictures to a model: `vlm-r1 ask`, its page, and `vlm_r1.ask` (docs/ask.md)."""
