"""How far a build is, as a line of its log: what the operator shows of a build Job that has no access to the API."""

from dataclasses import dataclass

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records

MARK = "progress: "
_LONGEST = 4096  # characters of such a line: what is longer is none of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildProgress:
    """A phase with its steps done of all (0: not known), and about how many seconds of it are left (0: not known)."""

    phase: str
    done: int = 0
    total: int = 0
    seconds_left: int = 0

    def to_line(self) -> str:
        """One line, without its end."""
        return MARK + records.canonical(self).decode()

    @staticmethod
    def is_line(line: str) -> bool:
        """Whether a line of a log is for machines."""
        return line.startswith(MARK)

    @classmethod
    def last_in(cls, log: str) -> "BuildProgress | None":
        """The last such line of a log; None where there is none, or where it is damaged: it is only shown."""
        line = next((each for each in reversed(log.splitlines()) if cls.is_line(each)), "")
        if not line or len(line) > _LONGEST:
            return None
        try:
            return records.from_json(cls, records.parse(line.removeprefix(MARK), what="The progress"), what="progress")
        except PlanError:
            return None

    @property
    def sentence(self) -> str:
        """For a person: "Trying tactics, 12 of 42, about 40 s left."."""
        parts = [self.phase, f"{self.done} of {self.total}" if self.total else ""]
        parts.append(f"about {self.seconds_left} s left" if self.seconds_left else "")
        return ", ".join(part for part in parts if part) + "."
