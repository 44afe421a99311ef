"""A small fixed part of `make chaos`, and its bookkeeping."""

import random
import re

import pytest

from tests.chaos import run, table
from tests.chaos.promises import Attack, Attempt, Ledger
from tests.chaos.run import ATTACKS, Session


@pytest.mark.slow
def test_a_small_part_holds(tmp_path):
    """The same code as the whole, one attempt for each of the cheap attacks."""
    chosen = [attack for attack in ATTACKS if attack.name in ("kills/train", "kills/predict")]
    session = Session(chosen, seed=1, folder=tmp_path)
    session.run_for(0, workers=1)

    assert session.failures == []
    assert session.ledger.is_kept


def make_attack(name, *faults, promises=("stays whole",)):
    def attack(attempt):
        for fault in faults:
            attempt.check(promises[0], fault)

    return Attack(name, attack, promises)


def run_attack(attack, folder):
    session = Session([attack], seed=1, folder=folder)
    session.run_for(0, workers=1)
    return session


def test_kept_promises_pass(tmp_path):
    session = run_attack(make_attack("kills/none", None, []), tmp_path)

    assert session.ledger.is_kept
    assert session.ledger.tallies["kills", "stays whole"].attempts == 2


def test_a_fault_is_a_failure_and_tells_how_to_repeat_it(tmp_path):
    session = run_attack(make_attack("kills/none", None, "torn"), tmp_path)

    assert not session.ledger.is_kept
    assert session.ledger.tallies["kills", "stays whole"].failures == 1
    assert "torn" in session.failures[0]
    assert "--seed 1 --only kills/none --attempt 1" in session.failures[0]


def test_a_promise_without_attempts_is_a_failure(tmp_path):
    assert not run_attack(make_attack("kills/none", None, promises=("stays whole", "untried")), tmp_path).ledger.is_kept


def test_an_attack_that_fails_itself_is_a_failure(tmp_path):
    def attack(attempt):
        raise RuntimeError("no such file")

    session = run_attack(Attack("kills/none", attack, ("stays whole",)), tmp_path)
    assert "no such file" in session.failures[0]


def test_a_seed_repeats_the_choices(tmp_path):
    drawn = []
    attack = Attack("kills/none", lambda attempt: drawn.append(attempt.rng.random()), ())
    for seed in (1, 1, 2):
        Session([attack], seed, tmp_path / str(len(drawn))).run_for(0, workers=1)

    assert drawn[0] == drawn[1] != drawn[2]


def test_the_page_gets_the_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(run.PAGE.read_text())
    attack = make_attack("kills/none", promises=("stays whole",))
    ledger = Ledger([attack])
    attempt = Attempt("kills/none", 1, tmp_path, random.Random(1), None)
    attempt.check("stays whole", None)
    ledger.count(attempt)
    table.write_page(page, ledger, ["disks: skipped, not root"])

    text = page.read_text()
    assert "| kills | stays whole | 1 | 0 |" in text
    assert "disks: skipped, not root" in text
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == re.findall(r"^#+ .*", run.PAGE.read_text(), re.MULTILINE)


def test_names_of_attacks_are_unique():
    names = [attack.name for attack in ATTACKS]

    assert len(names) == len(set(names))
