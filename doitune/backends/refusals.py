"""What transformers, peft and the libraries under them raise over a model's files that they cannot use."""

from __future__ import annotations


def refusals() -> tuple[type[Exception], ...]:
    """The kinds of error, for an `except`; a torch.OutOfMemoryError is one of them (it is a RuntimeError)."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    builtin = (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        LookupError,
        OSError,
        RuntimeError,
    )
    return (*builtin, TypeError, ValueError, SafetensorError, StrictDataclassError)


def first_line(error: BaseException) -> str:
    """The first line of a library's message, or the error's kind where it has none; the next line too where
    the first announces it."""
    lines = [line.strip() for line in (str(error).strip() or type(error).__name__).splitlines()]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])
