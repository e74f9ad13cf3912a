"""Whether this machine can train: system, libraries, cards, backends, disks, the hub's settings and the bases
that are here, each with its cure.

Nothing heavy is imported: torch and the backends are asked in a process of their own (`doctor_ask`), so that
a library which crashes as it is imported is a finding too. The network is asked only where the caller wants
it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from doitune.base.known import list_bases
from doitune.doctor.cards import cards, cards_check
from doitune.doctor.check import Check
from doitune.errors import DoituneError
from doitune.system.disk import filesystem_of, prove_folder

GIB = 1 << 30
OLDEST_TORCH = (2, 10)
"""Libraries below this project unpickle files; earlier releases of torch have published holes in that."""
OLDEST_PYTHON = (3, 10)
LOW_DISK_GIB = 20
LOW_RAM_GIB = 8
ASK_SECONDS = 180
SLOW_DISKS = ("9p", "drvfs", "nfs", "nfs4", "cifs", "smb3", "fuseblk")
ON, ENDPOINT = {"1", "ON", "YES", "TRUE"}, "https://huggingface.co"


@dataclass(frozen=True)
class Diagnosis:
    """All findings, and the machine's facts as plain JSON."""

    checks: tuple[Check, ...]
    machine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """The worst state of all."""
        states = {one.state for one in self.checks}
        return next((state for state in ("problem", "warning") if state in states), "ok")

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that mend, each once, in order."""
        return tuple(dict.fromkeys(command for one in self.checks for command in one.commands))

    def to_json(self) -> dict[str, Any]:
        """The document of `doitune doctor --json`."""
        checks = [
            {
                "name": one.name,
                "state": one.state,
                "text": one.text,
                "cure": one.cure,
                "commands": list(one.commands),
            }
            for one in self.checks
        ]
        return {
            "schema": "doitune.doctor/1",
            "state": self.state,
            "checks": checks,
            "machine": dict(self.machine),
            "commands": list(self.commands),
        }


def diagnose(runs: Path, *, network: bool = False) -> Diagnosis:
    """Look at this machine; `runs` is the folder that trainings would write to. `network`: also ask
    whether the hub answers."""
    found, asked = cards(), ask()
    machine = {
        **system(),
        "libraries": libraries(),
        "cards": [one.to_json() for one in found],
        "torch": asked.get("torch", {}),
    }
    machine["backends"] = asked.get("backends", {})
    checks = [
        _system_check(machine),
        *_library_checks(),
        cards_check(found),
        *_torch_checks(asked, bool(found)),
        *_backend_checks(asked, bool(found)),
        disk_check("runs folder", runs),
        disk_check("hub cache", hub_cache(), proved=False),
        hub_check(network=network),
        _bases_check(),
    ]
    return Diagnosis(tuple(checks), machine)


def system() -> dict[str, Any]:
    """Operating system, processor and memory (GiB)."""
    total, free = ram()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "wsl": "microsoft" in platform.release().lower(),
        "cpu": _cpu(),
        "cores": usable,
        "ram_gib": round(total, 1),
        "ram_free_gib": round(free, 1),
        "python": platform.python_version(),
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def ram() -> tuple[float, float]:
    """GiB in all and free, by the kernel; in a container at most its limit. Zeros where nobody says."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace").splitlines()
        said = {
            name: int(rest.split()[0]) * 1024 / GIB
            for name, _, rest in (line.partition(":") for line in lines)
            if rest.split()
        }
    except (OSError, ValueError):
        return 0.0, 0.0
    total, free = said.get("MemTotal", 0.0), said.get("MemAvailable", 0.0)
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")) / GIB
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii")) / GIB
    except (OSError, ValueError):
        return total, free
    return min(total, limit), max(0.0, min(free, limit - used))


def _system_check(machine: Mapping[str, Any]) -> Check:
    text = f"{machine['system']}{' (WSL)' if machine['wsl'] else ''}, {machine['cpu']}, {machine['cores']} cores, "
    text += f"{machine['ram_free_gib']:.1f} of {machine['ram_gib']:.1f} GiB of memory free, Python {machine['python']}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("machine", "problem", text, "doitune needs Python 3.10 or later")
    if not machine["system"].startswith("Linux"):
        return Check("machine", "warning", text, "doitune is made for Linux; on Windows use WSL 2")
    if 0 < machine["ram_free_gib"] < LOW_RAM_GIB:
        return Check(
            "machine",
            "warning",
            text,
            f"with less than {LOW_RAM_GIB} GiB free only small bases load; `doitune plan RECIPE` says how much one takes",
        )
    return Check("machine", "ok", text)


def libraries() -> dict[str, str]:
    """Installed versions of what this project depends on, with its extra for cards; absent ones are left
    out."""
    found = {"doitune": _version("doitune")}
    found |= {name: _version(name) for name, _, _ in _pins()}
    return {name: version for name, version in found.items() if version}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _pins() -> list[tuple[str, str, bool]]:
    """(library, limits, whether it is needed) as this project's own metadata say; of the extras only
    `gpu`."""
    try:
        said = metadata.requires("doitune") or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in said:
        wanted, _, marker = line.partition(";")
        match = re.match(r"([A-Za-z0-9_.-]+)\s*(.*)", wanted.strip())
        extra = re.search(r"extra\s*==\s*['\"](.+?)['\"]", marker)
        if match and (extra is None or extra[1] == "gpu"):
            found.append((match[1], match[2].strip(), extra is None))
    return found


def numbers(version: str) -> tuple[int, ...]:
    """A release's leading numbers: `2.13.0+cu128` -> (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", re.match(r"[\d.]*", version)[0]))  # type: ignore[index]


def outside(version: str, limits: str) -> str:
    """ "below" or "above" where a version breaks limits like `>=2.10,<2.14`, else ""."""
    mine = numbers(version)
    for limit in filter(None, (part.strip() for part in limits.split(","))):
        match = re.match(r"(>=|<=|<|>|==|!=|~=)\s*(.+)", limit)
        if match is None:
            continue
        other = numbers(match[2])
        width = max(len(mine), len(other))
        one, two = (number + (0,) * (width - len(number)) for number in (mine, other))
        if match[1] in (">=", ">", "~=") and one < two:
            return "below"
        if (match[1] == "<" and one >= two) or (match[1] == "<=" and one > two):
            return "above"
    return ""


def _library_checks() -> Iterator[Check]:
    pins = _pins()
    if not pins:
        yield Check(
            "libraries",
            "warning",
            "doitune is not installed here as a package, so that its limits are not known",
            "pip install doitune",
        )
        return
    wrong = [
        check
        for name, limits, needed in pins
        for check in library_check(name, limits, _version(name), needed=needed)
    ]
    yield from wrong
    if not wrong:
        there = ", ".join(
            f"{name} {_version(name)}"
            for name in ("torch", "transformers", "peft", "bitsandbytes")
            if _version(name)
        )
        yield Check("libraries", "ok", f"all within limits: {there}")


def library_check(name: str, limits: str, version: str, *, needed: bool) -> Iterator[Check]:
    """What is wrong with one library: a needed one that is missing or too old ends every training; a newer
    one is untried."""
    command = f"pip install '{name}{limits}'"
    if not version:
        if needed:
            yield Check(name, "problem", f"{name} is not installed", f"install {name}{limits}", (command,))
        return
    side = outside(version, limits)
    if name == "torch" and numbers(version)[:2] < OLDEST_TORCH:
        yield Check(
            name,
            "problem",
            f"torch {version} is below 2.10, the oldest that reads files safely enough",
            "install a later release",
            (command,),
        )
    elif side == "below":
        yield Check(
            name,
            "problem" if needed else "warning",
            f"{name} {version} is older than {limits}",
            "install a later release",
            (command,),
        )
    elif side == "above":
        yield Check(
            name,
            "warning",
            f"{name} {version} is newer than what doitune was tried with ({limits})",
            "install one within",
            (command,),
        )


def ask() -> dict[str, Any]:
    """What torch and the backends say, from a process of its own; {"error": sentence} where it fails."""
    words = [sys.executable, "-m", "doitune.doctor.ask"]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, errors="replace", timeout=ASK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"error": f"torch and the backends did not answer within {ASK_SECONDS} s"}
    except OSError as error:
        return {"error": f"no process can be started: {error.strerror}"}
    try:
        said = json.loads(done.stdout.strip().splitlines()[-1])
        return said if isinstance(said, dict) else {"error": "torch's process said something else"}
    except (IndexError, ValueError):
        last = ([line for line in done.stderr.splitlines() if line.strip()] or ["no message"])[-1]
        return {"error": f"the process that imports torch ended with {done.returncode}: {last.strip()}"}


def _torch_checks(asked: Mapping[str, Any], has_card: bool) -> Iterator[Check]:
    if "error" in asked:
        yield Check(
            "torch",
            "problem",
            str(asked["error"]),
            "install torch again",
            ("pip install --force-reinstall --no-deps 'torch>=2.10,<2.14'",),
        )
        return
    torch = asked["torch"]
    if torch["cuda"]:
        cards_text = ", ".join(
            f"{one['name']} (sm_{one['capability']}{', bf16' if one['bf16'] else ', no bf16'})"
            for one in torch["cards"]
        )
        yield Check("torch", "ok", f"torch {torch['version']}, CUDA {torch['built_for']}: {cards_text}")
    elif not has_card:
        yield Check("torch", "ok", f"torch {torch['version']} on the CPU")
    elif not torch["built_for"]:
        command = "pip install --force-reinstall 'torch>=2.10,<2.14' --index-url https://download.pytorch.org/whl/cu128"
        yield Check(
            "torch",
            "warning",
            f"torch {torch['version']} is built without CUDA, but a card is here",
            "install a build with CUDA",
            (command,),
        )
    else:
        yield Check(
            "torch",
            "warning",
            f"torch {torch['version']} is built for CUDA {torch['built_for']} and sees no card, "
            f"though the driver does: {torch['why'] or 'no reason given'}",
            "update the driver; look at CUDA_VISIBLE_DEVICES",
        )


def _backend_checks(asked: Mapping[str, Any], has_card: bool) -> Iterator[Check]:
    said: Mapping[str, Any] = asked.get("backends", {})
    none_serves = bool(said) and all(reason is not None for reason in said.values())
    for name, reason in said.items():
        if reason is None:
            yield Check(f"backend {name}", "ok", "can be used")
        else:
            install = (
                ("pip install 'doitune[gpu]'",) if name == "unsloth" and "not installed" in reason else ()
            )
            state = "problem" if none_serves else "warning" if has_card else "ok"
            yield Check(
                f"backend {name}",
                state,
                f"cannot be used: {reason}",
                "" if state == "ok" else "see the lines above",
                install,
            )


def hub_cache() -> Path:
    """Where the hub library keeps what it fetched, by its own variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def disk_check(name: str, folder: Path, *, proved: bool = True) -> Check:
    """Room on the disk of `folder` and, where a run would write there, whether it flushes, renames and
    locks files."""
    there = next(
        (path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir()), Path("/")
    )
    try:
        free = shutil.disk_usage(there).free / GIB
        if proved:
            prove_folder(there)
    except DoituneError as error:
        return Check(name, "problem", error.problem, error.hint)
    except OSError as error:
        return Check(
            name,
            "problem" if proved else "warning",
            f"{folder} cannot be read: {error.strerror}",
            "check the rights, or name another folder",
        )
    kind = filesystem_of(there)
    text = f"{folder} on {kind or 'a disk'}: {free:.1f} GiB free" + (
        ", flushes, renames and locks files" if proved else ""
    )
    if kind in SLOW_DISKS:
        return Check(
            name,
            "warning",
            text,
            f"{kind} is slow or loses locks: use a folder on a disk of this machine (on WSL not under /mnt)",
        )
    if free < LOW_DISK_GIB:
        return Check(
            name,
            "warning",
            text,
            f"less than {LOW_DISK_GIB} GiB: a base of 7b takes 14 GiB to fetch, 4 in NF4",
        )
    return Check(name, "ok", text)


def hub_check(*, network: bool) -> Check:
    """What the hub's variables say, and whether there is a login: never which."""
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ON
    endpoint = urlsplit(os.environ.get("HF_ENDPOINT") or ENDPOINT)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    login = Path(os.environ.get("HF_TOKEN_PATH") or Path(home) / "token").expanduser()
    logged = bool(os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")) or (
        login.is_file() and login.stat().st_size > 0
    )
    text = f"{endpoint.hostname or 'no host'}, {'logged in' if logged else 'not logged in (only gated models need it)'}"
    if endpoint.scheme not in ("https", "http") or not endpoint.hostname:
        return Check(
            "hub",
            "warning",
            "HF_ENDPOINT is no address of a server",
            "an address like https://host",
            ("unset HF_ENDPOINT",),
        )
    if offline:
        return Check(
            "hub",
            "warning",
            f"{text}; offline, as HF_HUB_OFFLINE is set: nothing will be fetched",
            "unset it to fetch",
            ("unset HF_HUB_OFFLINE",),
        )
    if network:
        reason = unreachable(f"{endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}")
        if reason:
            return Check(
                "hub",
                "warning",
                f"{text}; it does not answer: {reason}",
                "HF_ENDPOINT names a mirror; bases can be copied by hand, too",
            )
        return Check("hub", "ok", f"{text}; it answers")
    return Check("hub", "ok", f"{text}; not asked (--network asks it)")


def unreachable(address: str) -> str:
    """Why a server gives no answer, or ""; any HTTP status is one."""
    from urllib.error import HTTPError, URLError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=10).close()
    except HTTPError:
        return ""
    except (URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return ""


def _bases_check() -> Check:
    try:
        found = list_bases()
    except (DoituneError, OSError) as error:
        return Check("bases", "warning", f"the bases here cannot be listed: {error}", "`doitune base list`")
    whole = [one.name for one in found if one.state == "whole"]
    broken = [one for one in found if one.folder and one.state != "whole"]
    text = f"here: {', '.join(whole) or 'none'}"
    if broken:
        said = "; ".join(f"{one.name} is {one.state}" for one in broken)
        return Check(
            "bases", "warning", f"{text}; {said}", "get it again", tuple(one.get for one in broken if one.get)
        )
    return Check("bases", "ok", text)
