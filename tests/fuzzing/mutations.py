"""Ways in which a file comes to harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

Mutation = Callable[[bytes, Random], bytes]

_NUMBER = re.compile(rb"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?")
_TOKEN = re.compile(rb"[^\s,;:=\[\]{}]+")
_NUMBERS = (
    *(b"nan", b"-nan", b"NaN", b"inf", b"-inf", b"Infinity", b"1e400", b"-1e308", b"1e300", b"1e-320"),
    *(b"0", b"-0.0", b"-1", b"1_0", b"2147483648", b"-9223372036854775809", b"18446744073709551616"),
    *(
        b"9" * 30,
        b"9" * 5000,
        b"1e12",
        b"-1e12",
        b"100000000",
        b"0x10",
        b"1.5",
        b"true",
        b"null",
        b'""',
        b".",
    ),
)
_OPENINGS = (b"[", b'{"a":', b"(", b"a.", b"[[", b"{", b'["', b"<")
_BINARY = (
    *(
        b"\xff\xff\xff\xff",
        b"\x00\x00\x00\x80",
        b"\xff\xff\xff\x7f",
        b"\x00\x00\xc0\x7f",
        b"\x00\x00\x80\xff",
    ),
    *(
        b"\x00" * 8,
        b"\xff" * 8,
        b"\x00\x00\x00\x00\x00\x00\xf0\x7f",
        b"\x01\x00\x00\x00",
        b"\x00\x00\x01\x00",
    ),
)


def flip_bits(data: bytes, random: Random) -> bytes:
    """One to eight bits, anywhere."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 8)):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(data: bytes, random: Random) -> bytes:
    """The beginning alone."""
    return data[: random.randrange(len(data))]


def change_lines(data: bytes, random: Random) -> bytes:
    """A line twice, many times, not at all, or two in each other's place."""
    lines = data.splitlines(keepends=True)
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        lines[at:at] = [lines[at]] * random.choice((1, 1, 3, 300))
    elif kind == 1:
        del lines[at : at + random.choice((1, 1, 4))]
    elif kind == 2:
        lines[at], lines[other] = lines[other], lines[at]
    else:
        lines[at] = lines[other]
    return b"".join(lines)


def change_number(data: bytes, random: Random) -> bytes:
    """One number becomes another, or none."""
    return _replace(data, _NUMBER, lambda _: random.choice(_NUMBERS), random)


def change_token(data: bytes, random: Random) -> bytes:
    """A word becomes another of the file, a very long one, an empty one, or a string with odd letters."""
    words = [match[0] for match in _TOKEN.finditer(data[:100_000])]

    def other(word: bytes) -> bytes:
        odd = (
            b"",
            word * 400,
            b"x" * 3000,
            b"\xff\xfe",
            "\u00e9\u2028".encode(),
            b"\x1b[31m",
            b"a\0b",
            b"\\ud800",
        )
        return random.choice([*odd, *(random.choice(words) for _ in odd)])

    return _replace(data, _TOKEN, other, random)


def nest(data: bytes, random: Random) -> bytes:
    """Brackets, tables or dots opened many times over, in the place of a value or between two bytes."""
    deep = random.choice(_OPENINGS) * random.choice((3, 90, 400, 5000))
    if random.random() < 0.5:
        closing = {b"[": b"]", b'{"a":': b"}", b"{": b"}"}
        inside = deep + b"1" + closing.get(deep[:1], b"") * deep.count(deep[:1])
        return _replace(data, _NUMBER, lambda _: inside, random)
    at = random.randrange(len(data) + 1)
    return data[:at] + deep + data[at:]


def splice(data: bytes, random: Random) -> bytes:
    """A few bytes over others, between them, or in their place; a block moved elsewhere."""
    at, width = random.randrange(len(data) + 1), random.choice((0, 1, 4, 8, 60))
    new = random.choice([*_BINARY, random.randbytes(random.choice((1, 4, 30))), data[at : at + 200]])
    return data[:at] + new + data[at + width :]


def change_words(data: bytes, random: Random) -> bytes:
    """An aligned number of a binary file becomes an extreme one."""
    new = random.choice(_BINARY)
    at = 4 * random.randrange(max(1, len(data) // 4))
    return data[:at] + new + data[at + len(new) :]


def _replace(data: bytes, pattern: re.Pattern[bytes], new: Callable[[bytes], bytes], random: Random) -> bytes:
    found = list(pattern.finditer(data[:100_000]))
    if not found:
        return data
    match = random.choice(found)
    return data[: match.start()] + new(match[0]) + data[match.end() :]


TEXT: tuple[Mutation, ...] = (
    flip_bits, truncate, change_lines, change_number, change_number, change_token, change_token, nest, splice,
)  # fmt: skip
BINARY: tuple[Mutation, ...] = (flip_bits, truncate, change_words, change_words, splice)


def mutate(data: bytes, random: Random, *, binary: bool) -> bytes:
    """The file after one to three of these, mostly one."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        if data:
            data = random.choice(BINARY if binary else TEXT)(data, random)
    return data
