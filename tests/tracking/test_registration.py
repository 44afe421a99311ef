"""The description of a version: the card, truncated between sections to the limit of MLflow's tables."""

import pytest

from trainer.tracking.registration import DESCRIPTION_LIMIT, truncate_description

FIGURE = "![Reliability](figures/reliability.png)\n"


def card(*sizes):
    return "# Title\n\n" + "".join(f"## Part {i}\n\n{'x' * size}\n\n" for i, size in enumerate(sizes))


def test_a_short_card_loses_only_its_images():
    assert truncate_description(card(10) + FIGURE, "card.md") == card(10)


def test_a_long_card_ends_between_sections_and_names_the_rest():
    text = truncate_description(card(2000, 2000, 2000, 10), "card.md")
    assert text == card(2000, 2000) + "The rest is in card.md, an artifact of the run.\n"


@pytest.mark.parametrize("size", [4970, 4975, 5000, 25000])
def test_no_card_is_longer_than_the_limit(size):
    for text in (truncate_description(card(size), "card.md"), truncate_description("x" * size, "card.md")):
        assert 0 < len(text) <= DESCRIPTION_LIMIT
