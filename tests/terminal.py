"""What a pseudo-terminal was written, for tests and for the manual's pictures."""

from __future__ import annotations

import os


def until_closed(master: int) -> bytes:
    """All that comes out of a terminal until its other end is closed."""
    said: list[bytes] = []
    while True:
        try:
            piece = os.read(master, 1 << 16)
        except OSError:  # closed
            break
        if not piece:
            break
        said.append(piece)
    return b"".join(said)
