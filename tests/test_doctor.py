"""The doctor: limits of libraries, what nvidia-smi says, disks, the hub's settings without a secret, and
the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from doitune.doctor import checks
from doitune.doctor.cards import cards_check, read_cards
from doitune.doctor.check import Check
from doitune.doctor.checks import Diagnosis, disk_check, hub_check, library_check, outside


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
    ],
)
def test_versions_are_compared_as_numbers(version: str, limits: str, side: str) -> None:
    """Trap: as text 2.9 is above 2.10."""
    assert outside(version, limits) == side


def test_an_old_torch_is_a_problem_and_a_missing_extra_none() -> None:
    (old,) = library_check("torch", ">=2.8,<2.14", "2.9.0", needed=True)
    assert old.state == "problem" and old.commands
    assert [one.state for one in library_check("peft", ">=0.18", "", needed=True)] == ["problem"]
    assert [one.state for one in library_check("peft", "<0.22", "0.22", needed=True)] == ["warning"]
    assert not list(library_check("unsloth", ">=2026.10.7", "", needed=False))


def test_cards_are_read_with_what_others_hold() -> None:
    told = "GPU-1, NVIDIA GeForce RTX 4090, 24564, 12000, 570.1\nGPU-2, NVIDIA A100, 40960, 40900, 570.1\nan error\n"
    found = read_cards(told, "GPU-1, /home/小明/secret/python, 11800\nGPU-1, C:\\games\\game.exe, [N/A]\n")
    assert [one.free_mib for one in found] == [12000, 40900]
    assert found[0].others == (("python", 11800), ("game.exe", None)) and not found[1].others
    check = cards_check(found)
    assert check.state == "warning" and "game.exe, python" in check.cure
    assert cards_check(found[1:]).state == "ok" and cards_check(()).state == "warning"


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
    said = checks.ask()
    assert "libcudart is gone" in said["error"]
    (found,) = checks._torch_checks(said, False)
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
