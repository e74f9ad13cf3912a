"""How much a micro-batch has a card do under the hf backend: kernels launched, bytes they read and write beside the
products, matrices dequantised. Counted on fake tensors at the size of 33b, as `launches.py` says."""

from __future__ import annotations

import pytest
from launches import MAKES_WHOLE, Count, by_layer

from doitune.selftest.gpu_part import architecture_of

LINEARS = 7
A_LAYER, A_DOCUMENT, BESIDE = 327, 3, 126
"""Kernels of one layer's forward, its recomputation and its backward pass; beside them attention's for each document
of the row; and all that is no layer's: embedding, places, 7 pieces of logits."""
LAYER_GB, BESIDE_GB = 9.0, 9.0
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
    each, and over 16 documents 5 GB more); peft's adapters in fp32 (42 kernels and 11.3 GB more)."""
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
