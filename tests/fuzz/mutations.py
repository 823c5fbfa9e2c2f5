"""Damage: files and protobuf messages changed at random, as accidents and attackers change them.

Bytes are flipped, cut, inserted, moved and given absurd lengths. Messages keep their form while what they say goes
wrong: names of other things, sizes that cannot be, what is there twice or not at all, and one in itself.
"""

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError, Message

NUMBERS = (-1, 0, 1, 2, 7, 16, 255, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1, (1 << 63) - 1, -(1 << 63))
REALS = (0.0, -1.0, 1e-30, 1e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "../secret",
    "/etc/passwd",
    "..\\secret",
    "a/../../secret",
    "C:\\secret",
    "\0",
    "\n",
    "é" * 300,
    "x" * 5000,
)
CHUNKS = (b"\xff" * 10, b"\x00" * 40, b"\x0a\x00" * 200, b"\x0b" * 100, b"{" * 400, b"\x80" * 12, b"1e999", b"-", b'"')
DEPTHS = (1, 3, 30, 90, 300)
_MOST = 1 << 20  # bytes of a mutated file
_MOST_NESTED = 2000  # bytes of a message that is put into itself


def damaged(content: bytes, dice: random.Random) -> bytes:
    """A file with one to three changes of its bytes."""
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        content = dice.choice((_flip, _cut, _insert, _move, _repeat, _chunk, _varint))(content, dice)
    return content[:_MOST]


def _flip(content: bytes, dice: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content) + 1)]


def _insert(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content) + 1)
    return content[:at] + dice.randbytes(dice.randint(1, 64)) + content[at:]


def _move(content: bytes, dice: random.Random) -> bytes:
    size, here, there = dice.randint(1, 200), dice.randrange(len(content) + 1), dice.randrange(len(content) + 1)
    return content[:there] + content[here : here + size] + content[there + size :]


def _repeat(content: bytes, dice: random.Random) -> bytes:
    here, size = dice.randrange(len(content) + 1), dice.randint(1, 400)
    return content[:here] + content[here : here + size] * dice.choice((2, 3, 50)) + content[here + size :]


def _chunk(content: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(content) + 1)
    return content[:at] + dice.choice(CHUNKS) + content[at + dice.randint(0, 8) :]


def _varint(content: bytes, dice: random.Random) -> bytes:
    """A length or number of another size in one byte's place."""
    at = dice.randrange(len(content) + 1)
    number = dice.choice((127, 128, 1 << 14, 1 << 28, (1 << 31) - 1, (1 << 35) - 1, (1 << 63) - 1))
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    return content[:at] + bytes([*text, number]) + content[at + 1 :]


def changed(message: Message, dice: random.Random) -> Message:
    """A copy of the message with one to three changes of what it says."""
    copy = type(message)()
    copy.CopyFrom(message)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        places = [place for place in _within(copy) if place.DESCRIPTOR.fields]
        _change(dice.choice(places), dice, places)
    return copy


def _within(message: Message) -> Iterator[Message]:
    """The message and every one in it, children after their parents."""
    waiting = [message]
    while waiting:
        here = waiting.pop()
        yield here
        for field, value in here.ListFields():
            if field.message_type is not None and not field.message_type.GetOptions().map_entry:
                waiting.extend(value if _repeated(field) else [value])
            elif field.message_type is not None and field.message_type.fields_by_name["value"].message_type is not None:
                waiting.extend(value[key] for key in sorted(value))  # a map's own order is another in each process


def _repeated(field: Any) -> bool:
    return bool(field.is_repeated)


def _change(place: Message, dice: random.Random, places: list[Message]) -> None:
    given = place.ListFields()
    # What is there is changed more often than what is not is put there.
    field = dice.choice(given)[0] if given and dice.random() < 0.8 else dice.choice(place.DESCRIPTOR.fields)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map or dice.random() < 0.15:
        place.ClearField(field.name)
    elif _repeated(field):
        _change_list(place, field, dice, places)
    elif field.message_type is not None:
        _put(getattr(place, field.name), dice, places)
    else:
        _assign(lambda value: setattr(place, field.name, value), field, dice, places)


def _change_list(place: Message, field: Any, dice: random.Random, places: list[Message]) -> None:
    values = getattr(place, field.name)
    kind = dice.randrange(5)
    if len(values) and kind == 0:
        del values[dice.randrange(len(values))]
    elif len(values) and kind == 1:
        again = dice.choice(values)
        for _ in range(dice.choice((1, 1, 20))):
            values.append(again)
    elif len(values) > 1 and kind == 2:
        order = list(values)
        dice.shuffle(order)
        kept = [
            type(each).FromString(each.SerializePartialToString()) if field.message_type else each for each in order
        ]
        del values[:]
        values.extend(kept)
    elif field.message_type is not None:
        _put(dice.choice(values) if len(values) and kind == 3 else values.add(), dice, places)
    elif len(values):
        at = dice.randrange(len(values))
        _assign(lambda value: values.__setitem__(at, value), field, dice, places)
    else:
        _assign(values.append, field, dice, places)


def _put(target: Message, dice: random.Random, places: list[Message]) -> None:
    """Another message of the kind over this one; or many times in itself, where its kind can be."""
    alike = [each for each in places if each.DESCRIPTOR is target.DESCRIPTOR]
    if not alike:
        return
    other = type(target)()
    other.CopyFrom(dice.choice(alike))
    deep = dice.random() < 0.2 and other.ByteSize() < _MOST_NESTED
    for _ in range(dice.choice(DEPTHS) if deep else 1):
        try:
            target.MergeFrom(other)
        except DecodeError:  # deeper than protobuf itself goes
            return
        inner = [each for each in _within(target) if each is not target and each.DESCRIPTOR is target.DESCRIPTOR]
        if not inner:
            return
        target = inner[-1]


def _assign(put: Any, field: Any, dice: random.Random, places: list[Message]) -> None:
    if field.enum_type is not None:
        value: Any = dice.choice([each.number for each in field.enum_type.values])
    elif field.cpp_type == field.CPPTYPE_STRING:
        names = [text for place in dice.sample(places, min(len(places), 12)) for text in _texts(place)]
        value = dice.choice([*names, *TEXTS]) if names else dice.choice(TEXTS)
        if field.type == field.TYPE_BYTES:
            value = dice.choice((dice.randbytes(8), b"", value.encode() if isinstance(value, str) else value))
    elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = dice.choice(REALS)
    elif field.cpp_type == field.CPPTYPE_BOOL:
        value = dice.random() < 0.5
    else:
        value = dice.choice(NUMBERS)
    try:
        put(value)
    except (ValueError, TypeError):
        put(type(value)())  # out of the field's range: its zero


def _texts(place: Message) -> Iterator[str]:
    for field, value in place.ListFields():
        if field.type == field.TYPE_STRING:
            yield from value if _repeated(field) else [value]
