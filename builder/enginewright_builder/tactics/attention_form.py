"""How attention is cut (kernels/attention.cu): rows a block, warps that share the keys, keys a step. Pure.

Few heads and rows want few rows a block, so that every multiprocessor has one, and warps that share the keys; many want
many rows a block, so that keys and values are read less often. `cycles` weighs that: a rough model, whose order is all
that is used of it, for the tuner times what stands first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from enginewright_builder.device.implementation import Device

MOST = 10  # forms that are worth trying
_WIDE = 64  # numbers of a head up to which two blocks of 256 threads fit a multiprocessor's registers
_RESERVED = 1024  # bytes of shared memory that the system takes of each block


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """`heads` of all batches, each with `rows` queries of `head` numbers, and `keys` keys with values of `value`."""

    heads: int
    rows: int
    keys: int
    head: int
    value: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A block has `row_warps` times 16 rows, and for each 16 of them `key_warps` warps that take `keys` keys a step."""

    row_warps: int
    key_warps: int
    keys: int

    @property
    def name(self) -> str:
        """As the timing cache keeps it."""
        return f"{self.rows} rows, {self.key_warps} x {self.keys} keys"

    @property
    def rows(self) -> int:
        """Of a block."""
        return 16 * self.row_warps

    @property
    def step(self) -> int:
        """Keys a step of all warps."""
        return self.key_warps * self.keys

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.row_warps * self.key_warps


def ranked(work: Work, device: Device) -> tuple[Form, ...]:
    """The forms that fit the device, the likely best first."""
    fitting = (form for form in _forms(work) if shared_bytes(form, work) <= device.shared_bytes)
    return tuple(sorted(fitting, key=lambda form: cycles(form, work, device)))[:MOST]


def _forms(work: Work) -> Iterator[Form]:
    """Two to eight warps. A step of more than all keys, or rows of more than there are, are of no use."""
    for row_warps in (1, 2, 4, 8):
        for key_warps in (1, 2, 4, 8):
            for keys in (16, 32, 64):
                form = Form(row_warps=row_warps, key_warps=key_warps, keys=keys)
                whole = form.step < 2 * work.keys or form.step <= 64
                if 2 <= row_warps * key_warps <= 8 and form.step <= 256 and whole and form.rows < 2 * work.rows + 16:
                    yield form


def shared_bytes(form: Form, work: Work) -> int:
    """The kernel's dynamic shared memory, laid out as its text says."""
    head, value = _padded(work.head), _padded(work.value)
    held = (1 if work.keys <= form.step else 2) * form.step
    parts = form.key_warps * form.rows * ((value + 8) * 4 + 8)
    return max((form.rows + held) * (head * 2 + 16), parts) + held * (value * 2 + 16)


def least_blocks(form: Form, work: Work) -> int:
    """Blocks of a multiprocessor for which the compiler has to leave registers, so that it spills none."""
    narrow = max(work.head, work.value) <= _WIDE and (form.keys < 64 or work.keys <= form.step)
    return max(1, 512 // form.threads) if narrow else 1


def cycles(form: Form, work: Work, device: Device) -> float:
    """Roughly what a launch takes: the first loads, the most loaded multiprocessor's bytes or instructions, and one
    block's chain of steps."""
    blocks = -(-work.rows // form.rows) * work.heads
    together = min(device.shared_bytes // (shared_bytes(form, work) + _RESERVED), least_blocks(form, work)) or 1
    here = -(-blocks // device.multiprocessors)
    waves = -(-here // together)
    steps = -(-work.keys // form.step)
    numbers = work.head + work.value
    loaded = here * (form.rows * 2 * work.head + steps * form.step * numbers * 2) / 28
    products = form.keys * numbers / 128  # of 16 x 16 by 16 x 8, of a warp's step
    busy = -(-here * form.threads // 128) * steps * (6 * products + 7 * form.keys + 40)
    chain = steps * (120 + 4 * products + 3 * form.keys) + 25 * form.key_warps
    return 700 + max(loaded, busy) + waves * chain


def _padded(numbers: int) -> int:
    """To whole steps of a matrix product."""
    return (numbers + 15) // 16 * 16
