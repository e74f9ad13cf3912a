"""Sizes of memory and files, and counts of things, in words."""

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
"""Bytes of a kibibyte, a mebibyte, a gibibyte."""


def size_of(count: float) -> str:
    """Bytes in GiB; what is below a tenth of one in MiB, and so on."""
    if count >= GIB / 10:
        return f"{count / GIB:,.1f} GiB"
    return f"{count / MIB:,.1f} MiB" if count >= MIB / 10 else f"{count / KIB:,.1f} KiB"


def several(count: int, noun: str) -> str:
    """`1 problem`, `2 problems`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
