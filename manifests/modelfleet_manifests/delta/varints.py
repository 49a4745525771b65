"""Whole numbers in groups of seven bits, lowest first; the top bit says "more follows"."""


def write_varint(value: int) -> bytes:
    """Return `value`, which is not negative."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """Return (value, position after it).

    Raises:
        ValueError: It runs past the end or past nine bytes.
    """
    value = shift = 0
    for position in range(at, min(len(data), at + 9)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, position + 1
        shift += 7
    raise ValueError("bad varint")


def fold_sign(value: int) -> int:
    """Return 0, 1, 2, 3, … for 0, -1, 1, -2, …."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unfold_sign(value: int) -> int:
    """Undo `fold_sign`."""
    return -(value + 1 >> 1) if value & 1 else value >> 1
