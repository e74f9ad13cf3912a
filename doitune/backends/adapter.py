"""What is trained and saved, the same on every backend: LoRA matrices and the rows of added tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from doitune.backends.dropout import steady
from doitune.backends.refusals import first_line
from doitune.backends.token_rows import TokenRows
from doitune.base.adapter import WEIGHTS
from doitune.errors import CheckpointError
from doitune.prompt.batch import Batch

ROWS = "token_rows.safetensors"


class Adapter:
    """A LoRA adapter over a base: `peft` is the whole model with peft's layers in it, `rows` the added
    tokens' (None where there are none)."""

    def __init__(self, peft: PeftModel, rows: TokenRows | None) -> None:
        self.peft, self.rows = peft, rows
        self._places = steady(peft)

    def see(self, batch: Batch) -> None:
        """Let dropout know which examples the next forward pass is about."""
        if self._places is not None and self.peft.training:
            self._places.put(batch)

    @contextmanager
    def removed(self) -> Iterator[None]:
        """Inside, the model is the base alone, added rows at their first values."""
        with self.peft.disable_adapter():
            if self.rows is None:
                yield
            else:
                with self.rows.first_values():
                    yield

    def trainable(self) -> list[tuple[str, torch.nn.Parameter]]:
        """The trained parameters by name, sorted."""
        found = [pair for pair in self.peft.named_parameters() if pair[1].requires_grad]
        return sorted(found, key=lambda pair: pair[0])

    def is_fresh(self) -> bool:
        """Whether the model answers as the base alone does, since nothing is trained yet."""
        second = [matrix for name, matrix in self.trainable() if "lora_B" in name]
        zero = bool(second) and not any(matrix.any() for matrix in second)
        return zero and (self.rows is None or self.rows.are_first())

    def _matrices(self) -> dict[str, torch.Tensor]:
        """The LoRA matrices under the names that peft gives them in a file."""
        state = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        return {name: tensor for name, tensor in state.items() if "lora_" in name}

    def save(self, folder: Path) -> None:
        """Write peft's own form into an existing folder; rows of added tokens lie beside it."""
        state = {
            name: tensor.detach().cpu().contiguous() for name, tensor in sorted(self._matrices().items())
        }
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        self.peft.peft_config["default"].save_pretrained(str(folder))
        if self.rows is not None:
            save_file(self.rows.state(), folder / ROWS)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read what `save` wrote. CheckpointError, and nothing changes, unless names, shapes and dtypes
        agree."""
        own, stored = self._matrices(), _read(folder / WEIGHTS)
        rows = None if self.rows is None else _read(folder / ROWS)
        _refuse_other(own, stored, folder)
        for name, tensor in own.items():
            tensor.copy_(stored[name])
        if self.rows is not None and rows is not None:
            self.rows.load(rows)


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the adapter in {path.parent} cannot be read: {first_line(error)}", "use another checkpoint"
        ) from error


def _refuse_other(own: dict[str, torch.Tensor], stored: dict[str, torch.Tensor], folder: Path) -> None:
    wrong = sorted(set(stored) ^ set(own)) or [
        name for name in own if (own[name].shape, own[name].dtype) != (stored[name].shape, stored[name].dtype)
    ]
    if wrong:
        raise CheckpointError(
            f"the adapter in {folder} is not one of this model and recipe: {len(wrong)} tensors differ, "
            f"first {wrong[0]}",
            "rank, targets and base must be those it was trained with",
        )
