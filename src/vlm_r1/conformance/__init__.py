"""Checks, on the real model, whether a checkpoint and its adapter do what training relies on; for any family."""

from vlm_r1.conformance.base import Check, Finding, Result, Status
from vlm_r1.conformance.context import Context
from vlm_r1.conformance.suite import CHECKS, run_checks, select_checks

__all__ = ["CHECKS", "Check", "Context", "Finding", "Result", "Status", "run_checks", "select_checks"]
