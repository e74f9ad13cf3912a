"""The doctor: limits of libraries, cards that others fill, disks, the hub's settings without a secret, and
the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from doitune.doctor.cards import card_document, cards_check
from doitune.doctor.check import Check
from doitune.doctor.diagnosis import Diagnosis
from doitune.doctor.disks import disk_check
from doitune.doctor.engines import ask_engines, torch_checks
from doitune.doctor.hub import hub_check
from doitune.doctor.libraries import installed_libraries, library_check, outside, requirements
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
