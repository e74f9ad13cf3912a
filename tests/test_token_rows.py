"""Rows of their own for added tokens: the model treats them as its own, whatever it does to its embedding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from doitune.backends.token_rows import add_rows
from doitune.base.families import FAMILIES

SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 101,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SCALED = {"gemma": 8.0, "gemma2": 8.0, "gemma3_text": 8.0, "vaultgemma": 8.0, "biogpt": 8.0, "xglm": 8.0}
"""What these architectures multiply each row by at width 64."""

OUTSIDE = ["granite", "cohere", "olmo2", "glm", "phi"]
"""Architectures that scale behind the embedding or the head, or add a bias there."""


def model_of(kind: str, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    more = {"scale_embedding": True} if kind in ("biogpt", "xglm") else {}
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SIZES, **more)).to(dtype).eval()


def kinds() -> list[str]:
    from transformers import CONFIG_MAPPING

    known = [
        kind for kind in FAMILIES if kind in CONFIG_MAPPING and not CONFIG_MAPPING[kind].sub_configs
    ]  # a model of several parts is read by its text part
    assert len(known) >= 4
    return [*known, *SCALED, *OUTSIDE]


@pytest.mark.parametrize("kind", kinds())
def test_a_new_row_is_read_as_a_row_of_the_base(kind: str) -> None:
    """Trap: Gemma multiplies its rows by the root of the width and left the new ones 8 times too small."""
    model = model_of(kind)
    rows = add_rows(model, 3, 2)
    with torch.no_grad():
        rows.embedding.rows.copy_(rows.embedding.base.weight[5:8])
        rows.head.rows.copy_(rows.head.base.weight[5:8])
        own, new = torch.tensor([[10, 5, 11, 6, 12, 7]]), torch.tensor([[10, 101, 11, 102, 12, 103]])
        embed = model.get_input_embeddings()
        assert torch.equal(embed(own), embed(new))
        scale = float((embed(own)[0, 1] / rows.embedding.rows[0]).median())
        assert scale == pytest.approx(SCALED.get(kind, 1.0), rel=1e-6)
        assert torch.equal(model(own).logits, model(new).logits)


@pytest.mark.parametrize("kind", ["llama", *SCALED])
def test_every_new_row_has_the_gradient_of_a_row_of_the_base(kind: str) -> None:
    """Trap: the base's padding token is number 0; looked up as the base's own, new row 0 would never learn."""
    model = model_of(kind)
    rows = add_rows(model, 3, 2)
    rows.train()
    with torch.no_grad():
        rows.embedding.rows.copy_(rows.embedding.base.weight[5:8])
    embed = model.get_input_embeddings()
    padding = embed.base.padding_idx
    weights = torch.randn(6, 64)
    (embed(torch.tensor([101, 102, 103, 101, 101, 102])) * weights).sum().backward()
    wanted = SCALED.get(kind, 1.0) * torch.stack(
        [weights[[0, 3, 4]].sum(0), weights[[1, 5]].sum(0), weights[2]]
    )
    assert rows.embedding.rows.grad is not None
    assert torch.allclose(rows.embedding.rows.grad, wanted, rtol=1e-5, atol=1e-5)
    assert embed.base.padding_idx == padding


def test_new_rows_are_rounded_as_the_exported_matrix_is() -> None:
    """In 16 bits the scale is applied to the rounded row, as the base does it to its own."""
    model = model_of("gemma", torch.bfloat16)
    rows = add_rows(model, 1, 2)
    embed = model.get_input_embeddings()
    with torch.no_grad():
        rows.embedding.rows.copy_(torch.randn(1, 64) / 3)
        rows.embedding.base.weight[9] = rows.embedding.rows[0].bfloat16()
        assert torch.equal(embed(torch.tensor([101])), embed(torch.tensor([9])))
