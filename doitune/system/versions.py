"""Which versions of what run here: recorded with every result that may depend on them."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib import metadata

from packaging.version import Version

from doitune import __version__


def version_of(library: str) -> str:
    """The installed version of a library, empty where it is not installed; nothing is imported."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Versions of doitune and Python, and of those of `libraries` that are installed."""
    installed = {name: version_of(name) for name in libraries}
    return {
        "doitune": __version__,
        "python": platform.python_version(),
        **{name: version for name, version in installed.items() if version},
    }


def release_of(version: str) -> Version:
    """The release that a version belongs to: `2.10.0a0+git1` -> 2.10.0. ValueError for what is no version."""
    return Version(Version(version).base_version)
