"""The cards of this machine as their driver reports them (NVML, by NVIDIA's own nvidia-ml-py): milliseconds,
and no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class InstalledCard:
    """One card. `programs`: what computes on it, as (program's name without its folder, bytes of the card's
    memory); None where the driver does not report how much."""

    name: str
    total_bytes: int
    free_bytes: int
    driver: str
    programs: tuple[tuple[str, int | None], ...] = ()


def installed_cards() -> tuple[InstalledCard, ...]:
    """Every card of this machine that answers, by their slots; empty without a driver."""

    def all_cards(nvml: Any) -> tuple[InstalledCard, ...]:
        numbers = range(nvml.nvmlDeviceGetCount())
        found = (_asked(nvml, partial(_by_number, nvml, number), None) for number in numbers)
        return tuple(card for card in found if card is not None)

    return _with_driver(all_cards, ())


def installed_card(wanted: str) -> InstalledCard | None:
    """The card of a number (its slot) or of a UUID, as `CUDA_VISIBLE_DEVICES` names them; None where there is
    no such card."""

    def named(nvml: Any) -> InstalledCard:
        if wanted.isdecimal():
            return _by_number(nvml, int(wanted))
        return _card(nvml, nvml.nvmlDeviceGetHandleByUUID(wanted))

    return _with_driver(named, None)


def _with_driver(question: Callable[[Any], Answer], without: Answer) -> Answer:
    """The answer of the driver; `without` where there is none, or it fails."""
    if not _driver_there():
        return without
    import pynvml as nvml

    def begun() -> Answer:
        nvml.nvmlInit()
        try:
            return question(nvml)
        finally:
            nvml.nvmlShutdown()

    return _asked(nvml, begun, without)


def _driver_there() -> bool:
    """Whether there is the library that pynvml, which takes 10 ms to load, would ask."""
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def _asked(nvml: Any, question: Callable[[], Answer], without: Answer) -> Answer:
    """One answer; `without` where the driver fails, or a name in it is no UTF-8 (ValueError)."""
    try:
        return question()
    except (nvml.NVMLError, ValueError):
        return without


def _by_number(nvml: Any, number: int) -> InstalledCard:
    return _card(nvml, nvml.nvmlDeviceGetHandleByIndex(number))


def _card(nvml: Any, handle: Any) -> InstalledCard:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    none: list[Any] = []
    processes = _asked(nvml, partial(nvml.nvmlDeviceGetComputeRunningProcesses, handle), none)
    return InstalledCard(
        name=nvml.nvmlDeviceGetName(handle),
        total_bytes=memory.total,
        free_bytes=memory.free,
        driver=nvml.nvmlSystemGetDriverVersion(),
        programs=tuple(_program(nvml, one) for one in processes),
    )


def _program(nvml: Any, process: Any) -> tuple[str, int | None]:
    unknown = f"process {process.pid}"
    path = _asked(nvml, partial(nvml.nvmlSystemGetProcessName, process.pid), unknown)
    return path.replace("\\", "/").rpartition("/")[2], process.usedGpuMemory
