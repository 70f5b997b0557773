"""VLM-R1: reinforcement learning with rule-based rewards (GRPO) for vision-language models."""

__version__ = "0.1.0"
