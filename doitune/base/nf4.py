"""NF4 with double quantisation as bitsandbytes stores it, made a piece at a time: only one piece and the
absmax are in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import gcd
from typing import TYPE_CHECKING

from doitune.base.shard import ALIGNED

if TYPE_CHECKING:
    import torch
    from bitsandbytes.functional import QuantState

    from doitune.base.shard import ShardWriter

BLOCK = 64
"""Numbers that share one absmax; pieces must be multiples of it, but for the last."""
ABSMAX_BLOCK = 256
"""Absmax values that share one of their own."""

ROUNDED_AT_ONCE = 1 << 20
"""Numbers of a matrix that `rounded` quantises at once."""

QUANTISED = {
    "_load_in_4bit": True,
    "_load_in_8bit": False,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "llm_int8_enable_fp32_cpu_offload": False,
    "llm_int8_has_fp16_weight": False,
    "llm_int8_skip_modules": ["lm_head"],
    "llm_int8_threshold": 6.0,
    "load_in_4bit": True,
    "load_in_8bit": False,
    "quant_method": "bitsandbytes",
}
"""quantization_config of the result's config.json, as transformers writes it."""

STATE = "quant_state.bitsandbytes__nf4"
STATE_BYTES = 252
"""More than the text of a state takes in a file."""


def nf4_bytes(numbers: int, *, nested: bool = True) -> int:
    """Bytes of a matrix of so many numbers as bitsandbytes keeps it: packed halves, absmax (in 8 bits where
    `nested`, with an absmax and an offset of its own), and the code tables."""
    blocks = -(-numbers // BLOCK)
    codes, table = -(-numbers // 2), 4 * 16
    if not nested:
        return codes + 4 * blocks + table
    return codes + blocks + 4 * -(-blocks // ABSMAX_BLOCK) + table + 4 * 256 + 4


@dataclass
class Quantised:
    """The 4-bit codes of a matrix of `shape`, piece by piece, and then its other tensors. `dtype`: what
    the layer gives when dequantised."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    _absmax: list[torch.Tensor] = field(default_factory=list)

    def codes(self, pieces: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """uint8 codes, two a byte, of fp32 pieces."""
        from bitsandbytes.functional import quantize_4bit

        for piece in pieces:
            packed, state = quantize_4bit(
                piece.contiguous(), blocksize=BLOCK, compress_statistics=False, quant_type="nf4"
            )
            self._absmax.append(state.absmax)
            yield packed.cpu()

    def write(self, writer: ShardWriter, name: str, pieces: Iterable[torch.Tensor]) -> None:
        """Append the matrix `name`: codes, absmax and its own absmax and maps, and the state as JSON.

        Blanks behind the JSON bring the numbers that follow to their places.
        """
        count = self.shape[0] * self.shape[1]
        writer.add(name, "U8", (-(-count // 2), 1), self.codes(pieces))
        parts = self.rest()
        absmax, state = parts.pop("absmax"), bytes(parts.pop(STATE).tolist())
        writer.add(f"{name}.absmax", "U8", absmax.shape, [absmax])
        blanks = -(writer.place + len(state)) % ALIGNED
        writer.add(f"{name}.{STATE}", "U8", (len(state) + blanks,), [_text(state + b" " * blanks)])
        for key in sorted(parts):
            writer.add(f"{name}.{key}", "F32", parts[key].shape, [parts[key]])

    def rest(self) -> dict[str, torch.Tensor]:
        """What bitsandbytes stores beside the codes, by its names."""
        import torch
        from bitsandbytes.functional import QuantState, get_4bit_type, quantize_blockwise

        absmax = torch.cat(self._absmax)
        offset = absmax.mean()
        nested, state2 = quantize_blockwise(absmax - offset, blocksize=ABSMAX_BLOCK)
        state = QuantState(
            absmax=nested,
            shape=torch.Size(self.shape),
            dtype=self.dtype,
            blocksize=BLOCK,
            quant_type="nf4",
            offset=offset,
            state2=state2,
            code=get_4bit_type("nf4", device=absmax.device),
        )
        return {key: value.cpu() for key, value in state.as_dict(packed=True).items()}


@dataclass(frozen=True)
class Codes:
    """A matrix [outputs, inputs] in 4 bits, of which some rows are dequantised at a time. `packed`: two codes
    a byte; `state`: bitsandbytes', its absmax in 32 bits."""

    packed: torch.Tensor
    state: QuantState

    @classmethod
    def stored(cls, packed: torch.Tensor, rest: Mapping[str, torch.Tensor]) -> Codes:
        """Of codes and what is stored beside them, by the names of `Quantised.write`."""
        import torch
        from bitsandbytes.functional import QuantState, dequantize_blockwise

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        state = QuantState.from_dict({key: value.to(device) for key, value in rest.items()}, device=device)
        if state.nested:
            state.absmax = dequantize_blockwise(state.absmax, state.state2).float() + state.offset
            state.nested, state.state2, state.offset = False, None, None
        return cls(packed.reshape(-1), state)

    def rows(self, first: int, last: int) -> torch.Tensor:
        """fp32 rows [first, last): the same values however many are asked for."""
        import torch
        from bitsandbytes.functional import QuantState, dequantize_4bit

        block, (rows, width) = self.state.blocksize, self.state.shape
        # where blocks cross rows, bitsandbytes' values on a CPU depend on the shape
        start, end = (first, last) if width % block == 0 else (0, rows)
        some = QuantState(
            absmax=self.state.absmax[start * width // block : -(-end * width // block)],
            shape=torch.Size((end - start, width)),
            dtype=torch.float32,
            blocksize=block,
            quant_type=self.state.quant_type,
            code=self.state.code,
        )
        packed = self.packed[start * width // 2 : -(-end * width // 2)].reshape(-1, 1)
        if start == end:
            return torch.zeros(0, width)
        return dequantize_4bit(packed.to(some.absmax.device), some).cpu()[first - start : last - start]


def rounded(matrix: torch.Tensor) -> Codes:
    """[outputs, inputs] as training quantises it on loading it. Some rows are quantised at once: bitsandbytes
    takes three times the matrix in fp32."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    made, width = Quantised((matrix.shape[0], matrix.shape[1]), torch.float32), matrix.shape[1]
    whole = BLOCK // gcd(BLOCK, width)
    pieces = matrix.split(max(1, ROUNDED_AT_ONCE // width // whole) * whole)
    codes = torch.cat(list(made.codes(piece.to(device).float() for piece in pieces)))
    return Codes.stored(codes, made.rest())


def _text(data: bytes) -> torch.Tensor:
    import torch

    json.loads(data)
    return torch.tensor(list(data), dtype=torch.uint8)
