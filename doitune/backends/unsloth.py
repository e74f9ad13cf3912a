"""The unsloth backend: CUDA only, through Unsloth's Python API.

It is not part of this release: `why_not` says so, and `auto` goes on to `hf`.
"""

from __future__ import annotations

from doitune.backends import LoadRequest
from doitune.backends.loaded import LoadedModel
from doitune.errors import FitError


def why_not() -> str | None:
    """This release has no unsloth path yet."""
    return "this release of doitune does not drive Unsloth yet"


def load(request: LoadRequest) -> LoadedModel:
    """Refused, in the words of `why_not`."""
    raise FitError(str(why_not()), "use --set model.backend=hf")
