"""The order of an epoch and the arrangements of a step: every example once, the budget kept, nothing
wasted."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doitune.prompt.batch import (
    MICRO_BATCH_COST_TOKENS,
    arrange,
    cut_sorted,
    epoch_order,
    flatten,
    pack,
    pad,
    trained_tokens,
)
from doitune.prompt.encoded import IGNORED, Encoded

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=60)
BUDGET = st.integers(1, 600)


def _encoded(length: int, first: int = 3) -> Encoded:
    ids = tuple(range(first, first + length))
    return Encoded(ids, (*[IGNORED] * (length // 2), *ids[length // 2 :]))


def _cost(groups: list[list[int]], lengths: list[int]) -> int:
    return sum(
        len(group) * max(lengths[place] for place in group) + MICRO_BATCH_COST_TOKENS for group in groups
    )


NAMES = st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=40, unique=True)


@settings(deadline=None)
@given(NAMES, st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_is_a_permutation_and_follows_the_names_not_their_places(
    names: list[bytes], seed: int, epoch: int
) -> None:
    """The same names in another file order are learnt from in the same order. Trap: a shuffle of places."""
    order = epoch_order(names, seed, epoch).tolist()
    assert sorted(order) == list(range(len(names)))
    turned = names[::-1]
    assert [turned[place] for place in epoch_order(turned, seed, epoch)] == [names[place] for place in order]
    assert epoch_order(names, seed, epoch).tolist() == order


def test_epochs_and_seeds_differ() -> None:
    names = [b"curated/math#%d" % number for number in range(50)]
    orders = {tuple(epoch_order(names, seed, epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert tuple(range(50)) not in orders


def test_equal_names_all_take_part() -> None:
    """Rows with one id (a corpus read twice) stand beside each other, by place; none is lost."""
    order = epoch_order([b"a", b"b", b"a", b"c", b"a"], 1, 0).tolist()
    assert sorted(order) == [0, 1, 2, 3, 4]
    at = [order.index(place) for place in (0, 2, 4)]
    assert at == list(range(at[0], at[0] + 3))


@settings(deadline=None)
@given(LENGTHS, BUDGET)
def test_packing_places_each_once_within_the_budget_and_near_the_fewest_bins(
    lengths: list[int], budget: int
) -> None:
    """First-fit decreasing: at most 11/9 of the fewest bins and one more; the fewest are at least sum /
    budget."""
    bins = pack(lengths, budget)
    assert sorted(place for group in bins for place in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or sum(lengths[place] for place in group) <= budget for group in bins)
    long = sum(length > budget for length in lengths)
    fitting = [length for length in lengths if length <= budget]
    filled = [sum(lengths[place] for place in group) for group in bins if lengths[group[0]] <= budget]
    assert len(bins) == long + len(filled)
    # any two bins together hold more than one budget, or they would have been one
    assert all(a + b > budget for a, b in combinations(filled, 2))
    assert len(filled) <= max(1, 2 * sum(fitting) / budget + 1)


def test_packing_is_near_the_bound_on_realistic_lengths() -> None:
    """Trap: one example a bin would pass the laws of places and budgets."""
    import numpy

    lengths = [
        int(min(2048, max(8, length))) for length in numpy.random.default_rng(0).lognormal(4.5, 1.0, 640)
    ]
    bins = pack(lengths, 4096)
    assert len(bins) <= -(-sum(lengths) // 4096) + 1


def _best_by_force(lengths: list[int], budget: int) -> int:
    """The least cost over all cuts of the sorted lengths."""
    order = sorted(range(len(lengths)), key=lambda place: (-lengths[place], place))
    best = None
    for count in range(len(order)):
        for edges in combinations(range(1, len(order)), count):
            marks = [0, *edges, len(order)]
            groups = [order[a:b] for a, b in pairwise(marks)]
            if all(len(group) == 1 or len(group) * lengths[group[0]] <= budget for group in groups):
                cost = _cost(groups, lengths)
                best = cost if best is None else min(best, cost)
    assert best is not None
    return best


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=9), st.integers(1, 1500))
def test_sorted_cuts_are_the_cheapest_ones(lengths: list[int], budget: int) -> None:
    """Against every possible cut. Trap: a greedy cut that keeps the laws and wastes a micro-batch."""
    groups = cut_sorted(lengths, budget)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    assert all(
        len(group) == 1 or len(group) * max(lengths[place] for place in group) <= budget for group in groups
    )
    assert _cost(groups, lengths) == _best_by_force(lengths, budget)


@settings(deadline=None)
@given(LENGTHS, BUDGET)
def test_the_longest_example_comes_first(lengths: list[int], budget: int) -> None:
    """So that a lack of memory shows at once, not at the end of a step."""
    assert lengths[cut_sorted(lengths, budget)[0][0]] == max(lengths)


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_padding_and_flattening_hold_the_examples_whole(lengths: list[int]) -> None:
    encoded = [_encoded(length, first=3 + number) for number, length in enumerate(lengths)]
    padded, flat = pad(encoded, pad_id=1), flatten(encoded)
    assert padded.ids.shape == padded.labels.shape == (len(lengths), max(lengths))
    assert flat.ids.shape == flat.labels.shape == (1, sum(lengths))
    assert padded.lengths == flat.lengths == tuple(lengths)
    assert flat.packed and not padded.packed
    start = 0
    for row, one in enumerate(encoded):
        size = len(one.ids)
        assert (
            tuple(padded.ids[row, :size].tolist())
            == tuple(flat.ids[0, start : start + size].tolist())
            == one.ids
        )
        assert tuple(padded.labels[row, :size].tolist()) == one.labels
        # the label of a first token is never predicted: in a packed row it would be, from the example before it
        assert tuple(flat.labels[0, start : start + size].tolist()) == (IGNORED, *one.labels[1:])
        assert (padded.labels[row, size:] == IGNORED).all(), "padding must not be trained"
        start += size


@pytest.mark.parametrize("packed", [True, False])
def test_members_say_whose_row_it_is(packed: bool) -> None:
    """Trap: losses by ability booked on the wrong examples after sorting."""
    encoded = [_encoded(length, first=100 * number) for number, length in enumerate((5, 90, 17, 33, 64, 2))]
    batches = arrange(encoded, 100, packed=packed, pad_id=1)
    assert len(batches) > 1
    seen = []
    for batch in batches:
        for row, place in enumerate(batch.members):
            assert batch.lengths[row] == len(encoded[place].ids)
            first = sum(batch.lengths[:row]) if packed else 0
            assert int(batch.ids[0 if packed else row, first]) == encoded[place].ids[0]
            seen.append(place)
    assert sorted(seen) == list(range(len(encoded)))


def test_trained_tokens_count_labels_only() -> None:
    assert trained_tokens([_encoded(10), _encoded(3)]) == 5 + 2
