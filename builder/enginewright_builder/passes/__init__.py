"""Passes: each makes a network smaller or faster and keeps its outputs. PIPELINE lists them, with reasons."""

from enginewright_builder.passes.base import Pass, PassReport
from enginewright_builder.passes.pipeline import GPU_PIPELINE, PIPELINE, gpu_pipeline, run

__all__ = ["GPU_PIPELINE", "PIPELINE", "Pass", "PassReport", "gpu_pipeline", "run"]
