"""The libraries that doitune needs, and their limits as its own metadata state them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from doitune.base.pickled import SAFE_TORCH
from doitune.doctor.check import Check
from doitune.system.versions import release_of, version_of, versions

SHOWN = ("torch", "transformers", "peft", "bitsandbytes")


def installed_libraries() -> dict[str, str]:
    """Installed versions of what this project depends on, with its extra for cards; absent ones are left
    out."""
    return versions(requirement.name for requirement, _ in requirements())


def requirements() -> list[tuple[Requirement, bool]]:
    """What doitune depends on, and whether it is needed; of the extras only `gpu`."""
    try:
        lines = metadata.requires("doitune") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        needed = marker is None or marker.evaluate({"extra": ""})
        if needed or (marker is not None and marker.evaluate({"extra": "gpu"})):
            found.append((requirement, needed))
    return found


def outside(version: str, limits: SpecifierSet) -> str:
    """ "below" or "above" where a version's release breaks limits like `>=2.10,<2.14`, else ""."""
    release = release_of(version)
    for limit in limits:
        if not limit.contains(release):
            return "below" if limit.operator in (">=", ">", "~=") else "above"
    return ""


def library_checks() -> Iterator[Check]:
    """What is wrong with each library; one line where nothing is."""
    wanted = requirements()
    if not wanted:
        text = "doitune is not installed here as a package, so that its limits are not known"
        yield Check("libraries", "warning", text, "pip install doitune")
        return
    wrong = [
        check
        for requirement, needed in wanted
        for check in library_check(requirement, version_of(requirement.name), needed=needed)
    ]
    yield from wrong
    if not wrong:
        there = [f"{name} {version_of(name)}" for name in SHOWN if version_of(name)]
        yield Check("libraries", "ok", f"all within limits: {', '.join(there)}")


def library_check(requirement: Requirement, version: str, *, needed: bool) -> Iterator[Check]:
    """What is wrong with one library: a needed one that is missing or too old ends every training; a newer
    one is untried. `version` "": it is not installed."""
    name, limits = requirement.name, requirement.specifier
    commands = (f"pip install '{name}{limits}'",)
    if not version:
        if needed:
            yield Check(name, "problem", f"{name} is not installed", f"install {name}{limits}", commands)
        return
    side = outside(version, limits)
    if name == "torch" and release_of(version) < SAFE_TORCH:
        text = f"torch {version} is below {SAFE_TORCH}, the oldest that reads files safely enough"
        yield Check(name, "problem", text, "install a later release", commands)
    elif side == "below":
        text = f"{name} {version} is older than {limits}"
        yield Check(name, "problem" if needed else "warning", text, "install a later release", commands)
    elif side == "above":
        text = f"{name} {version} is newer than what doitune was tried with ({limits})"
        yield Check(name, "warning", text, "install one within", commands)
