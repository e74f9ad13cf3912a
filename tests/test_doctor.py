"""The doctor: limits of libraries, cards that others fill, disks, the hub's settings without a secret, and
the exit code."""

from __future__ import annotations

import json
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from doitune.doctor import hub
from doitune.doctor.cards import card_document, cards_check
from doitune.doctor.check import Check
from doitune.doctor.diagnosis import Diagnosis
from doitune.doctor.disks import disk_check, written_mib
from doitune.doctor.engines import ask_engines, torch_checks
from doitune.doctor.hub import hub_check
from doitune.doctor.libraries import installed_libraries, library_check, outside, requirements
from doitune.doctor.machine import this_machine
from doitune.doctor.wsl import DRIVER, OWN, wsl_check
from doitune.system import secrets
from doitune.system.cards import InstalledCard
from doitune.system.units import MIB


@pytest.mark.parametrize(
    ("version", "limits", "side"),
    [
        ("2.9.1+cu128", ">=2.10,<2.14", "below"),
        ("2.10.0", ">=2.10,<2.14", ""),
        ("2.14.0", ">=2.10,<2.14", "above"),
        ("5.17.0", "<=5.17.0,>=5.10", ""),
        ("5.17.1", "<=5.17.0,>=5.10", "above"),
        ("0.50", ">=0.48.1,<0.51", ""),
        ("1.0", "", ""),
        ("2.10.0a0+git1", ">=2.10,<2.14", ""),
        ("2.14.0a0", ">=2.10,<2.14", "above"),
    ],
)
def test_versions_are_compared_as_numbers(version: str, limits: str, side: str) -> None:
    """Traps: as text 2.9 is above 2.10; a card's own build of torch calls itself a pre-release."""
    assert outside(version, SpecifierSet(limits)) == side


def test_an_old_torch_is_a_problem_and_a_missing_extra_none() -> None:
    (old,) = library_check(Requirement("torch>=2.8,<2.14"), "2.9.0", needed=True)
    assert old.state == "problem" and old.commands
    assert [one.state for one in library_check(Requirement("peft>=0.18"), "", needed=True)] == ["problem"]
    assert [one.state for one in library_check(Requirement("peft<0.22"), "0.22", needed=True)] == ["warning"]
    assert not list(library_check(Requirement("unsloth>=2026.10.7"), "", needed=False))


def test_what_is_needed_is_what_the_package_says() -> None:
    """Of the extras the one for cards, which is not needed; no test tools."""
    found = {requirement.name: needed for requirement, needed in requirements()}
    assert found["torch"] and not found["unsloth"] and "pytest" not in found
    assert installed_libraries().keys() >= {"doitune", "torch"}


def test_what_others_hold_of_a_card_is_a_warning() -> None:
    programs = (("python", 11800 * MIB), ("game.exe", None))
    full = InstalledCard("RTX 4090", 24564 * MIB, 12000 * MIB, "570.1", programs)
    free = InstalledCard("A100", 40960 * MIB, 40900 * MIB, "570.1")
    check = cards_check([full, free])
    assert check.state == "warning" and "game.exe, python" in check.cure
    assert cards_check([free]).state == "ok" and cards_check(()).state == "warning"
    assert card_document(full)["others"] == [
        {"program": "python", "mib": 11800},
        {"program": "game.exe", "mib": None},
    ]


def test_the_hub_is_told_without_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrstuvwxyz")
    monkeypatch.setenv("HF_ENDPOINT", "https://user:password@mirror.example/x")
    said = hub_check(network=True)  # offline: not asked all the same
    assert said.state == "warning" and "mirror.example, logged in" in said.text
    assert not [secret for secret in ("hf_abc", "password", "user") if secret in f"{said}"]
    monkeypatch.setenv("HF_ENDPOINT", "mirror")
    assert "no address" in hub_check(network=False).text


def test_a_folder_that_is_not_there_is_proved_by_its_parent_and_left_alone(tmp_path: Path) -> None:
    check = disk_check("runs folder", tmp_path / "新" / "runs")
    assert check.state in ("ok", "warning") and "locks" in check.text
    assert not list(tmp_path.iterdir())


def test_a_process_that_cannot_import_torch_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart is gone')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    said = ask_engines()
    assert "libcudart is gone" in said["error"]
    (found,) = torch_checks(said, False)
    assert found.state == "problem" and found.commands


def test_the_worst_finding_decides_and_the_document_is_json() -> None:
    found = Diagnosis(
        (
            Check("a", "ok", "x"),
            Check("b", "warning", "y", "z", ("mend",)),
            Check("c", "warning", "y", "z", ("mend",)),
        )
    )
    assert found.state == "warning" and found.commands == ("mend",)
    assert json.loads(json.dumps(found.to_json()))["schema"] == "doitune.doctor/1"
    assert Diagnosis((*found.checks, Check("d", "problem", "w"))).state == "problem"


class Refusing(BaseHTTPRequestHandler):
    """Any answer is one."""

    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


def test_a_hub_that_hangs_is_left_in_seconds_and_a_mirror_that_answers_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Trap: a firewall that swallows packets; the doctor then waits for a minute."""
    monkeypatch.setattr(hub, "ANSWER_SECONDS", 0.5)
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirror = f"http://127.0.0.1:{server.server_port}"
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes a connection and says nothing
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "MIRROR", mirror)
        monkeypatch.setattr(hub, "OTHERS", ("http://127.0.0.1:9", mirror))
        started = time.monotonic()
        found = hub.hub_check(network=True)
        assert time.monotonic() - started < 30
        assert found.state == "warning" and "does not answer" in found.text and mirror in found.text
        assert found.commands == (f"export HF_ENDPOINT={mirror}",)
        monkeypatch.setattr(hub, "OTHERS", ("http://127.0.0.1:9",))
        assert "no other place does" in hub.hub_check(network=True).text
        asked: list[str] = []
        monkeypatch.setattr(hub, "unreachable", lambda address: asked.append(address) or "")
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        assert "offline" in hub.hub_check(network=True).text and not asked
        monkeypatch.delenv("HF_HUB_OFFLINE")
        assert "it answers" in hub.hub_check(network=True).text and len(asked) == 1
        assert "not asked" in hub.hub_check(network=False).text and len(asked) == 1
    server.shutdown()
    server.server_close()


def test_a_card_that_torch_does_not_see_has_its_reason() -> None:
    torch = {"version": "2.13.0+cu130", "built_for": "13.0", "cuda": False, "cards": [], "why": ""}
    (old,) = torch_checks({"torch": torch}, True, "550.54.14")
    assert "needs driver 580 or later" in old.cure and "cu128" in old.commands[0] and "550.54.14" in old.text
    (older,) = torch_checks({"torch": torch}, True, "470.1")
    assert "needs driver 580" in older.cure and not older.commands, "no build of CUDA 12 would run either"
    (fit,) = torch_checks({"torch": {**torch, "built_for": "12.8"}}, True, "550.54.14")
    assert "restart" in fit.cure
    said = "CUDA initialization: The NVIDIA driver on your system is too old"
    (told,) = torch_checks({"torch": {**torch, "why": said, "built_for": "12.8"}}, True, "550.54.14")
    assert "update the driver" in told.cure


def test_windows_linux_has_the_driver_of_windows(tmp_path: Path) -> None:
    machine = replace(this_machine(), system="Linux 5.15.167-microsoft-standard-WSL2", wsl=True, ram_gib=32.0)
    assert "no card" in wsl_check(machine, tmp_path).text
    (tmp_path / DRIVER).parent.mkdir(parents=True)
    (tmp_path / DRIVER).touch()
    assert wsl_check(machine, tmp_path).state == "ok"
    assert "memory=" in wsl_check(replace(machine, ram_gib=7.6), tmp_path).cure
    (tmp_path / OWN[0]).parent.mkdir(parents=True)
    (tmp_path / OWN[0]).symlink_to(tmp_path / DRIVER)
    assert wsl_check(machine, tmp_path).state == "ok", "a link to the one of Windows is how WSL has it"
    (tmp_path / OWN[0]).unlink()
    (tmp_path / OWN[0]).touch()
    assert "hides the one of Windows" in wsl_check(machine, tmp_path).text
    assert "WSL 1" in wsl_check(replace(machine, system="Linux 4.4.0-19041-Microsoft"), tmp_path).text


def test_a_disk_is_measured_and_a_slow_one_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written_mib(tmp_path) > 0 and not list(tmp_path.iterdir())
    monkeypatch.setattr("doitune.doctor.disks.written_mib", lambda folder: 12.0)
    slow = disk_check("runs folder", tmp_path)
    assert slow.state == "warning" and "12 MiB/s" in slow.text


def test_the_document_may_be_shown_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    token, home = "hf_" + "a1B2" * 8, str(Path.home())
    monkeypatch.setenv("MY_TOKEN", "a secret of mine")
    secrets.known.cache_clear()
    texts = (f"{home}/runs", "a secret of mine", f"https://me:pass@x/{token}")
    shown = json.dumps(Diagnosis(tuple(Check(text, "ok", text) for text in texts)).to_json())
    secrets.known.cache_clear()
    assert "~/runs" in shown and not [one for one in (home, "a secret", "me:pass", token) if one in shown]
