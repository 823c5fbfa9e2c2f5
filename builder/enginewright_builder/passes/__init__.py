"""Passes: each makes a network smaller or faster and keeps its outputs. PIPELINE lists them, with reasons."""

from enginewright_builder.passes.base import Pass, PassReport
from enginewright_builder.passes.pipeline import PIPELINE, run

__all__ = ["PIPELINE", "Pass", "PassReport", "run"]
