"""Cards as the driver reports them: a driver that is not there, fails, or knows less than is asked."""

from __future__ import annotations

import subprocess
import sys
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from doitune.system.cards import InstalledCard, installed_card, installed_cards
from doitune.system.units import GIB


class Nvml(ModuleType):
    """pynvml as far as it is asked: two cards; `failing` names the calls that raise."""

    class NVMLError(Exception):
        """What every call raises."""

    def __init__(self, *failing: str) -> None:
        super().__init__("pynvml")
        self.failing, self.asked = failing, list[str]()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        return lambda *about: self._answer(name.removeprefix("nvml"), *about)

    def _answer(self, name: str, *about: Any) -> Any:
        self.asked.append(" ".join(map(str, (name, *about))))
        if {name, self.asked[-1]} & set(self.failing):
            raise self.NVMLError(name)
        programs = [SimpleNamespace(pid=1, usedGpuMemory=3 * GIB), SimpleNamespace(pid=2, usedGpuMemory=None)]
        return {
            "DeviceGetCount": 2,
            "DeviceGetHandleByIndex": about[0] if about else None,
            "DeviceGetHandleByUUID": 0,
            "DeviceGetMemoryInfo": SimpleNamespace(total=24 * GIB, free=20 * GIB, used=4 * GIB),
            "DeviceGetName": "NVIDIA GeForce RTX 4090",
            "SystemGetDriverVersion": "570.1",
            "DeviceGetComputeRunningProcesses": programs if about == (0,) else [],
            "SystemGetProcessName": {1: "/home/小明/secret/python", 2: "C:\\games\\game.exe"}.get(*about)
            if about
            else None,
        }.get(name)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a stand-in for pynvml in its place."""

    def place(*failing: str) -> Nvml:
        stand_in = Nvml(*failing)
        monkeypatch.setitem(sys.modules, "pynvml", stand_in)
        monkeypatch.setattr("doitune.system.cards._driver_there", lambda: True)
        return stand_in

    return place


CARD = InstalledCard("NVIDIA GeForce RTX 4090", 24 * GIB, 20 * GIB, "570.1")


def test_every_card_with_the_programs_on_it(driver: Any) -> None:
    """Programs without their folders: those are nobody's business in a report."""
    nvml = driver()
    first, second = installed_cards()
    assert second == CARD
    assert first.programs == (("python", 3 * GIB), ("game.exe", None))
    assert nvml.asked[0] == "Init" and nvml.asked[-1] == "Shutdown"


def test_one_card_by_its_number_or_its_name(driver: Any) -> None:
    nvml = driver()
    assert installed_card("1") == CARD
    found = installed_card("GPU-abc")
    assert found is not None and found.programs
    assert {"DeviceGetHandleByIndex 1", "DeviceGetHandleByUUID GPU-abc"} <= set(nvml.asked)


@pytest.mark.parametrize(
    "failing", ["Init", "DeviceGetHandleByIndex", "DeviceGetMemoryInfo", "DeviceGetName"]
)
def test_a_driver_that_fails_is_none(driver: Any, failing: str) -> None:
    """Trap: a plan or a doctor that ends in a traceback of NVML; a session of NVML that is left open."""
    nvml = driver(failing)
    assert installed_card("0") is None and installed_cards() == ()
    assert nvml.asked.count("Shutdown") == (0 if failing == "Init" else 2)


def test_what_one_card_does_not_say_leaves_the_rest(driver: Any) -> None:
    driver("DeviceGetHandleByIndex 0")
    assert installed_cards() == (CARD,)
    driver("DeviceGetComputeRunningProcesses")
    assert installed_cards() == (CARD, CARD)
    driver("SystemGetProcessName")
    assert installed_cards()[0].programs == (("process 1", 3 * GIB), ("process 2", None))


def test_without_a_driver_the_answer_is_quick_and_needs_no_torch() -> None:
    code = "import sys; from doitune.system.cards import installed_cards; installed_cards(); "
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True)
    assert done.stdout.split() == [b"False"], done.stderr
    assert time.monotonic() - begun < 30
