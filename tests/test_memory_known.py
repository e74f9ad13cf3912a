"""The table of known cards: the driver's own names find them, and no figure stands where none is known."""

from __future__ import annotations

import pytest

from doitune.errors import UsageError
from doitune.memory.cards import Card, read_card
from doitune.memory.hours import known_cards
from doitune.memory.known import CARDS, KNOWN, KnownCard, named_card, short_names
from doitune.memory.plan import outlook, plan_memory
from doitune.recipe.resolve import resolve

DRIVER = {
    "NVIDIA GeForce RTX 2060": 6,
    "NVIDIA GeForce RTX 2080 Ti": 11,
    "NVIDIA GeForce RTX 2070 SUPER": 8,
    "NVIDIA GeForce RTX 2080 with Max-Q Design": 8,
    "GeForce RTX 2080 Ti": 11,
    "NVIDIA TITAN RTX": 24,
    "NVIDIA GeForce RTX 3050 6GB Laptop GPU": 6,
    "NVIDIA GeForce RTX 3060": 12,
    "NVIDIA GeForce RTX 3080 Laptop GPU": 16,
    "NVIDIA GeForce RTX 3090": 24,
    "NVIDIA GeForce RTX 4060 Laptop GPU": 8,
    "NVIDIA GeForce RTX 4060 Ti": 16,
    "NVIDIA GeForce RTX 4070 Ti SUPER": 16,
    "NVIDIA GeForce RTX 4090 D": 24,
    "NVIDIA GeForce RTX 5070 Ti Laptop GPU": 12,
    "NVIDIA GeForce RTX 5090": 32,
    "Quadro RTX 8000": 48,
    "NVIDIA RTX A2000 12GB": 12,
    "NVIDIA RTX A6000": 48,
    "NVIDIA RTX 2000 Ada Generation Laptop GPU": 8,
    "NVIDIA RTX 4000 SFF Ada Generation": 20,
    "NVIDIA RTX 6000 Ada Generation": 48,
    "NVIDIA RTX PRO 4500 Blackwell": 32,
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": 96,
    "NVIDIA RTX PRO 5000 72GB Blackwell": 72,
}


@pytest.mark.parametrize("name", DRIVER)
def test_the_drivers_name_finds_the_card_of_its_memory(name: str) -> None:
    """With the memory that is left under ECC, a sixteenth less, too."""
    for reported in (DRIVER[name], DRIVER[name] * 15 / 16):
        found = named_card(name, reported)
        assert found is not None and found.gib == DRIVER[name]


def test_every_card_is_found_by_its_name_and_by_one_word() -> None:
    """Trap: two cards whose names read alike, so that one can never be named."""
    words = short_names()
    assert len(CARDS) > 100 and len(set(words)) == len(words) == len(CARDS)
    for card, word in zip(CARDS, words, strict=True):
        assert named_card(card.name, card.gib) == named_card(word) == card
        assert read_card(word) == Card(card.gib, card.name)


def test_every_generation_is_there_on_the_desk_and_on_the_lap() -> None:
    for series in ("20", "30", "40", "50"):
        models = "60 70 80" if series == "20" else "50 60 70 80 90"
        for model in models.split():
            desk = f"RTX {series}{model}"
            assert named_card(desk) or desk == "RTX 4050"
            lap = desk if series == "20" else f"{desk} Laptop GPU"
            assert named_card(lap) or lap == "RTX 3090 Laptop GPU"


def test_figures_are_of_one_measure() -> None:
    """Trap: the rate with sparsity, or with sums in fp16: twice too fast. NVIDIA's papers on Ampere, Ada and
    Blackwell state the dense rates of these with fp32 sums."""
    stated = {"RTX 3080": 59.5, "RTX 3070": 40.6, "RTX 4080": 97.5, "RTX 5080": 112.6, "RTX 5070": 61.7}
    figures = {card.name: card for card in KNOWN}
    assert {name: figures[name].tflops for name in stated} == stated
    for card in KNOWN:
        assert 15 < card.tflops < 400 and 200 <= card.gb_per_second <= 1800 and 0.5 <= card.efficiency <= 0.7
        assert 60 < 1000 * card.tflops / card.gb_per_second < 400, card


def test_another_word_is_no_card() -> None:
    for wrong in ("rtx", "nvidia", "rtx 1", "Tesla T4", "gpu", "laptop gpu"):
        assert named_card(wrong) is None
    with pytest.raises(UsageError) as caught:
        read_card("rtx4091")
    assert "RTX 4090" in caught.value.hint and len(caught.value.hint) < 160


def test_a_card_whose_speed_is_not_known_is_planned_without_hours() -> None:
    """Trap: the hours of another card that happens to have as much memory."""
    resolved = resolve("reconstruct", model="7b")
    for name in ("rtx2080ti", "rtx4090laptop", "RTX PRO 6000"):
        card = read_card(name)
        assert not known_cards(card) and not isinstance(named_card(name), KnownCard)
        plan = plan_memory(resolved, card)
        seen = outlook(resolved.recipe, plan)
        assert plan.fits and not seen.paces and card.name in seen.not_known
    assert [one.card for one in outlook(resolved.recipe, plan_memory(resolved, read_card("5080"))).paces] == [
        "RTX 5080"
    ]
