"""The lock: every package that an installation needs, in one version, by hash, from nowhere in particular."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
FILES = ("requirements.lock", "requirements-cuda.lock")
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^\\@]+)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


@dataclass(frozen=True)
class Locked:
    """A package in one version, for the environments of its marker."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    def holds(self, environment: dict[str, str]) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)


def parse(text: str) -> list[Locked]:
    """ValueError for a line that is neither a comment, a pinned version nor a hash, and for a version
    without one."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if PIN.fullmatch(line):
            found.append((line[:-2], []))
        elif HASH.fullmatch(line) and found:
            found[-1][1].append(line)
        else:
            raise ValueError(f"no pin and no hash: {line!r}")
    bare = [name for name, hashes in found if not hashes]
    if bare or not found:
        raise ValueError(f"without a hash: {bare}")
    return [Locked(Requirement(name), tuple(hashes)) for name, hashes in found]


def locked() -> list[Locked]:
    return [one for name in FILES for one in parse((ROOT / name).read_text(encoding="utf-8"))]


def environment(python: str) -> dict[str, str]:
    """A Linux machine with that Python."""
    here = {name: str(value) for name, value in default_environment().items()}
    return {**here, "python_version": python, "python_full_version": f"{python}.0", "extra": ""}


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for: to run, and to build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = [
        Requirement(text)
        for text in (*project["project"]["dependencies"], *project["build-system"]["requires"])
    ]
    assert len(found) > 10
    return found


def test_every_line_is_a_version_with_hashes_and_nothing_else() -> None:
    """No address, no index, no path: where a file comes from is the installer's own business, and its hash
    says whether it is the one."""
    assert len(locked()) > 60
    for name in FILES:
        text = (ROOT / name).read_text(encoding="utf-8")
        body = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
        assert not re.search(r"https?:|file:|--index|--find-links|@", body)


@pytest.mark.parametrize(
    "bad",
    [
        "a==1\n",
        "a>=1 \\\n    --hash=sha256:" + "0" * 64,
        "a==1 \\\n    --hash=sha256:0",
        "--index-url https://example.org",
        "a @ file:///a.whl \\",
    ],
)
def test_the_reader_refuses_what_a_lock_may_not_hold(bad: str) -> None:
    with pytest.raises(ValueError):
        parse(bad)


@pytest.mark.parametrize("python", PYTHONS)
def test_what_the_project_asks_for_is_locked_within_its_ranges(python: str) -> None:
    """Trap: a range raised in pyproject.toml and not in the lock."""
    here = [one for one in locked() if one.holds(environment(python))]
    twice = [name for name, count in Counter(one.name for one in here).items() if count > 1]
    assert not twice, "one version for one machine"
    versions = {one.name: one.version for one in here}
    for requirement in wanted():
        version = versions.get(canonicalize_name(requirement.name))
        assert version and requirement.specifier.contains(version), (
            f"{requirement} is not {version}: run .ci/lock"
        )


def test_what_the_packages_ask_for_is_locked_too() -> None:
    """Installed with --no-deps, a package that is missing would be missing for good. Walked through what
    is installed here."""
    here = {
        one.name: one.version
        for one in locked()
        if one.holds(environment(f"{sys.version_info[0]}.{sys.version_info[1]}"))
    }
    waiting, seen, walked = list(wanted()), set(), 0
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker is not None and not requirement.marker.evaluate(
            {**environment("3.11"), **default_environment(), "extra": ""}
        ):
            continue
        assert name in here, f"{requirement} is not locked: run .ci/lock"
        if name in seen:
            continue
        seen.add(name)
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # what only the build needs, or another build of torch
        if installed.version.partition("+")[0] == here[name]:
            walked += 1
            waiting += [Requirement(text) for text in installed.requires or []]
    assert len(seen) > 15 and walked > 0
