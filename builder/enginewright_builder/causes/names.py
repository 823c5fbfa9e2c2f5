"""Layers' names in a sentence."""

_LONGEST = 60  # characters


def short(name: str) -> str:
    """In quotes; a long one without its middle, since both of its ends tell something."""
    return repr(name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2 - 1]}…{name[-_LONGEST // 2 :]}")
