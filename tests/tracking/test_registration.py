"""The description of a version: the card, cut between sections where MLflow's tables hold no more."""

import pytest

from trainer.tracking.registration import LIMIT, describe

FIGURE = "![Reliability](figures/reliability.png)\n"


def card(*sizes):
    return "# Title\n\n" + "".join(f"## Part {i}\n\n{'x' * size}\n\n" for i, size in enumerate(sizes))


def test_a_short_card_is_whole_but_for_its_figure():
    assert describe(card(10) + FIGURE, "card.md") == card(10)


def test_a_long_card_ends_between_sections_and_names_the_rest():
    text = describe(card(2000, 2000, 2000, 10), "card.md")
    assert text == card(2000, 2000) + "The rest stands in card.md, an artifact of the run.\n"


@pytest.mark.parametrize("size", [LIMIT - 30, LIMIT - 25, LIMIT, 5 * LIMIT])
def test_no_card_is_longer_than_the_limit(size):
    for text in (describe(card(size), "card.md"), describe("x" * size, "card.md")):
        assert 0 < len(text) <= LIMIT
