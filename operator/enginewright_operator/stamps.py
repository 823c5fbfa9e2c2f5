"""Times as Kubernetes writes them, and how long ago they were by a clock that may have been set meanwhile."""

import datetime


def stamp(now: datetime.datetime) -> str:
    """A time in UTC, to the second."""
    return now.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ahead(stamped: str, now: datetime.datetime) -> bool:
    """Whether it lies in the future: the clock was set back since."""
    return datetime.datetime.fromisoformat(stamped) > now


def since(stamped: str, now: datetime.datetime) -> float:
    """Seconds between the two, whichever comes first: nothing waits for as long as a clock was wrong by."""
    return abs((now - datetime.datetime.fromisoformat(stamped)).total_seconds())
