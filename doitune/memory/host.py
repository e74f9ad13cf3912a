"""Main memory and disk that a training needs beside the card."""

from __future__ import annotations

from dataclasses import dataclass

from doitune.memory.block import offloaded_bytes
from doitune.memory.setting import Setting
from doitune.memory.terms import base_bytes, paged_bytes
from doitune.system.units import GIB

PROCESS_GIB = 3.0
"""Python, torch and CUDA's libraries in main memory: assumed."""


@dataclass(frozen=True)
class Host:
    """`ram_gib`: the process, and the larger of loading (tensor by tensor, two at a time) and training
    (offloaded checkpoints, paged states).

    `whole_gib`: what loading would take with the whole 16-bit base in main memory, which doitune avoids.
    `disk_gib`: the base and the run's checkpoints. `base_16_bit_gib`, `base_nf4_gib`: the base as published,
    and quantised before.
    """

    ram_gib: float
    whole_gib: float
    disk_gib: float
    base_16_bit_gib: float
    base_nf4_gib: float
    checkpoints_gib: float


def host_of(setting: Setting, *, quantised: bool, checkpoints: int) -> Host:
    """`quantised`: the base lies on disk in 4 bits; `checkpoints`: how many a run keeps at a time, the one
    being written included."""
    shape = setting.architecture
    largest = 2 * max(
        shape.vocabulary * shape.hidden, *(outputs * inputs for outputs, inputs in shape.linears.values())
    )
    training = offloaded_bytes(setting) + paged_bytes(setting)
    whole = 2 * shape.parameters / GIB
    on_card = base_bytes(setting) / GIB if setting.quantise == "nf4" else whole
    # an adapter in fp32 and two moments in 8 bits, or in fp32
    adapter = (
        setting.lora_parameters * (4 + (8 if setting.optimizer == "adamw" else 2.03125)) * checkpoints / GIB
    )
    return Host(
        ram_gib=PROCESS_GIB + max(2 * largest, training) / GIB,
        whole_gib=PROCESS_GIB + whole,
        disk_gib=(on_card if quantised else whole) + adapter,
        base_16_bit_gib=whole,
        base_nf4_gib=on_card,
        checkpoints_gib=adapter,
    )
