"""Why a plan did not pass: which layers lose the accuracy, in which precision; who takes the time, and the memory."""

from enginewright_builder.causes.precision import find
from enginewright_builder.causes.shares import largest, slowest

__all__ = ["find", "largest", "slowest"]
