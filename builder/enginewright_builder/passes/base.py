"""What a pass is: a frozen value with a name, a reason and an apply, which tells what it did and what it declined."""

from dataclasses import dataclass
from typing import Protocol

from enginewright_builder.network.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PassReport:
    """What a pass did: `changed` counts layers or values, `details` and `declined` are lines for a person."""

    name: str
    changed: int
    details: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()


class Pass(Protocol):
    """Changes a network in place and keeps its outputs, input names and output names."""

    @property
    def name(self) -> str:
        """Short and fixed: it stands in reports."""

    @property
    def reason(self) -> str:
        """Why the pipeline has it."""

    def apply(self, network: Network) -> PassReport:
        """Do it. A candidate that does not fit is declined with a line that says why, never an error."""
