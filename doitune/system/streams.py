"""The three standard streams, fit for what a long run meets: closed by its starter, on a full disk, on a
terminal that is gone, in another encoding.

Progress and notes (stderr) may be lost and never end a run; a result (stdout) that cannot be written is an
error; a reader that went away is neither.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress

from doitune.errors import DiskError


class _Notes(io.TextIOWrapper):
    """stderr: what cannot be written is lost."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


class _Results(io.TextIOWrapper):
    """stdout. Errors: DiskError; BrokenPipeError where nobody reads any more. After either what is left
    goes nowhere, so that Python can end."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise self._lost(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> OSError | DiskError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            return BrokenPipeError()  # without its number, by which typer would end the process with 1
        return DiskError(
            f"the result cannot be written to stdout: {error.strerror}",
            "make room where it goes, or send it elsewhere",
        )


_closed: set[int] = set()
"""The numbers of the standard streams that were closed when the process began."""


def need_results() -> None:
    """DiskError where stdout was closed from the start, for a command whose only work is what it says."""
    if 1 in _closed:
        raise DiskError("the result cannot be written to stdout: it is closed", "open it, or use >/dev/null")


def fit() -> None:
    """Make stdin, stdout and stderr of this process usable. What a test has put in their place stays."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if _is_closed(
            number
        ):  # the next file that is opened would take the number, and get what libraries write to it
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
            _closed.add(number)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    sys.stdout, sys.stderr = _as(_Results, sys.stdout), _as(_Notes, sys.stderr)


def _as(kind: type[_Notes] | type[_Results], stream: object) -> io.TextIOWrapper:
    """The same stream as one of ours; a character that its encoding lacks is written as an escape."""
    if type(stream) is not io.TextIOWrapper:
        return stream  # type: ignore[return-value]
    encoding, by_line = stream.encoding, stream.line_buffering
    return kind(
        stream.detach(),
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=by_line,
        write_through=kind is _Notes,
    )


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, what Unsloth prints goes to the log: a command's output is its own."""
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            yield
    finally:
        if said.getvalue().strip():
            import logging

            logging.getLogger("doitune.unsloth").debug(said.getvalue().rstrip())
