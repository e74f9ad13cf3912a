"""How much a micro-batch has a card do under the hf backend: kernels launched, bytes they read and write beside the
products, matrices dequantised. Counted on fake tensors at the size of 33b, as `launches.py` says."""

from __future__ import annotations

import pytest
from launches import MAKES_WHOLE, Count, by_layer

from doitune.selftest.gpu_part import architecture_of

LINEARS = 7
A_LAYER, A_DOCUMENT, BESIDE = 279, 3, 103
"""Kernels of one layer's forward, its recomputation and its backward pass; beside them attention's for each document
of the row; and all that is no layer's: embedding, places, 7 pieces of logits."""
LAYER_GB, BESIDE_GB = 5.4, 3.6
"""Read and written by a layer's kernels beside products, attention and dequantisation, 2,048 tokens of 33b."""


@pytest.fixture(scope="module")
def counted() -> dict[int, tuple[Count, Count]]:
    """By the number of documents: what a layer adds, and what is beside all layers."""
    shape = architecture_of("33b")
    return {documents: by_layer(shape, (2048 // documents,) * documents) for documents in (4, 16)}


def test_a_layers_kernels_do_not_grow_with_its_documents_but_for_attention(
    counted: dict[int, tuple[Count, Count]],
) -> None:
    """Traps: slices of a packed row, whose gradients are a row of zeros for each document, added up (9 kernels more for
    each, and over 16 documents 5 GB more); peft's adapters in fp32 (42 kernels and 11.3 GB more); a norm written out
    (48 kernels and 3.7 GB more); logits made again for their gradient."""
    for documents, (layer, beside) in counted.items():
        print(
            f"\n{documents} documents: {layer.launches} kernels a layer, {layer.traffic:.2f} GB; "
            f"{beside.launches} beside, {beside.traffic:.2f} GB; {layer.kernels[MAKES_WHOLE]} matrices made whole"
        )
        assert 100 < layer.launches <= A_LAYER + A_DOCUMENT * documents
        assert 20 < beside.launches <= BESIDE
        assert layer.traffic <= LAYER_GB and beside.traffic <= BESIDE_GB


def test_a_matrix_is_dequantised_three_times_a_micro_batch(counted: dict[int, tuple[Count, Count]]) -> None:
    """Forward, recomputed, and for the gradient of its input; the block's last one is not recomputed. Trap: what the
    backward pass needs of that layer is kept behind its frozen product, a fifth of a recomputation for nothing."""
    for layer, beside in counted.values():
        assert layer.kernels[MAKES_WHOLE] == 3 * LINEARS - 1 and not beside.kernels[MAKES_WHOLE]


def test_the_head_is_multiplied_twice_a_micro_batch(counted: dict[int, tuple[Count, Count]]) -> None:
    """Logits, and the gradient of what they are of; beside them attention's places. Trap: logits made again."""
    shape = architecture_of("33b")
    once = 2 * 2048 * shape.vocabulary * shape.hidden
    for _, beside in counted.values():
        flops = sum(times * one.flops for one, times in beside.each.items())
        assert 1.9 * once < flops < 2.01 * once


def test_dropout_takes_three_kernels_and_14_bytes_a_number(counted: dict[int, tuple[Count, Count]]) -> None:
    """A product of two words, its comparison and what is kept; for the gradient the last alone. Trap: every number's
    word mixed of its own (406 kernels and 23 GB more a layer)."""
    shape = architecture_of("33b")
    layer, _ = by_layer(shape, (512,) * 4, dropout=0.05)
    plain, _ = counted[4]
    more, numbers = layer.traffic - plain.traffic, 2048 * (6 * shape.hidden + shape.intermediate) / 1e9
    print(f"\ndropout: {layer.launches - plain.launches} kernels more a layer, {more:.2f} GB")
    assert 30 * numbers < more < 34 * numbers  # 14 forward, 14 again, 5 for the gradient
    assert layer.launches - plain.launches <= 70
