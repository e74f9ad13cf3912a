"""Paths as people type them: the homes of users, and names that no file system has."""

from __future__ import annotations

import errno
from pathlib import Path

from doitune.errors import UsageError


def from_home(path: str | Path) -> Path:
    """The path with a leading `~` or `~user` replaced by that home. UsageError where there is none, and for
    an empty name, which would mean the current folder."""
    if path == "":
        raise UsageError("an empty name names no file and no folder", "write `.` for the current folder")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(
            f"{str(path)[:80]!r}: no user of that name has a home here", "write the whole path"
        ) from None


def bad_name(error: OSError) -> UsageError | None:
    """The error for a name that the system refuses to look at; None where it complains of something else."""
    if error.errno != errno.ENAMETOOLONG:
        return None
    name = str(error.filename or "")
    shown = f"{name[:60]}..." if len(name) > 60 else name
    return UsageError(
        f"{shown!r} is too long for a name: {len(name.encode(errors='surrogateescape')):,} bytes",
        "a file's or folder's name has at most 255 bytes, a whole path 4,095",
    )


def as_argument(path: Path) -> str:
    """A path as the command line takes it: one that begins with `-` would be an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text
