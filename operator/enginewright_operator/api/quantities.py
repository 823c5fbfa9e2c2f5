"""Quantities of bytes and durations, as Kubernetes writes them: the patterns of the CRDs and the functions that read.

Both live here so that a text which the pattern lets through is always one that the function reads.
"""

import re
from typing import Annotated

from pydantic import Field

from enginewright_operator.errors import ManifestError

QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})?(Ki|Mi|Gi|Ti|k|M|G|T)?$"
DURATION_PATTERN = r"^([0-9]{1,9}(\.[0-9]{1,6})?(h|ms|us|m|s))+$"

_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BYTES |= {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}

Quantity = Annotated[str, Field(pattern=QUANTITY_PATTERN, max_length=20)]
Duration = Annotated[str, Field(pattern=DURATION_PATTERN, max_length=30)]


def parse_quantity(text: str) -> int:
    """Bytes: "512Mi" is 536870912, "1.5G" is 1500000000. Raises ManifestError."""
    if not re.match(QUANTITY_PATTERN, text):
        raise ManifestError(f"{text!r} is not a quantity of bytes: write a number and Ki, Mi, Gi or Ti, as in 512Mi.")
    number = text.rstrip("KMGTki")
    return int(float(number) * _BYTES[text[len(number) :]])


def parse_duration(text: str) -> float:
    """Seconds: "1h30m" is 5400, "7ms" is 0.007. Raises ManifestError."""
    if not re.match(DURATION_PATTERN, text):
        raise ManifestError(f"{text!r} is not a duration: write numbers with h, m, s, ms or us, as in 1h30m or 7ms.")
    parts = re.findall(r"([0-9.]+)(h|ms|us|m|s)", text)
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
