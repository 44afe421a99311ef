"""The decision log: one order for all writers, decisions that came too late are ignored, older logs are read."""

import dataclasses
import json
import threading

import pytest
from decision_helpers import MODEL, add, decision, replay
from hypothesis import given
from hypothesis import strategies as st

from registry.store.decision_log import CHALLENGER, PREVIOUS, DecisionLog, RegistryState
from trainer.core.errors import RegistryError


def state_after(*decisions):
    """State after decisions that each followed the one before."""
    return replay(
        decision(kind, version, place, place + 1, **more)
        for place, (kind, version, more) in enumerate((*one, {})[:3] for one in decisions)
    )


@pytest.mark.parametrize(
    ("decisions", "champions", "rolled_back"),
    [
        ([("promoted", 1), ("refused", 2), ("promoted", 3)], (1, 3), set()),
        # two rollbacks go two back, not to and fro
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("restored", 2), ("restored", 1)], (1,), {2, 3}),
        # back to one further down
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("restored", 1)], (1,), {2, 3}),
        # a rollback that is itself taken back
        ([("promoted", 1), ("promoted", 2), ("restored", 1), ("restored", 2)], (1, 2), set()),
        # to a version that was never champion: it takes the place of the bad one
        ([("promoted", 1), ("promoted", 2), ("restored", 5)], (1, 5), {2}),
        ([("promoted", 1), ("promoted", 2), ("restored", 1), ("promoted", 2)], (1, 2), set()),
        ([("external", 4), ("promoted", 5), ("restored", 4)], (4,), {5}),
        # a move by hand: to a new version like a promotion, to an earlier champion like a rollback
        ([("promoted", 1), ("external", 2)], (1, 2), set()),
        ([("promoted", 1), ("promoted", 2), ("external", 1)], (1,), {2}),
        ([("promoted", 1), ("promoted", 2), ("external", 2, {"removed": True}), ("restored", 1)], (1,), {2}),
        ([("promoted", 1), ("external", 1, {"removed": True}), ("promoted", 3)], (3,), {1}),
        ([("promoted", 1), ("promoted", 2), ("external", 5, {"alias": PREVIOUS}), ("restored", 5)], (1, 5), {2}),
    ],
)
def test_decisions_add_up_to_champions(decisions, champions, rolled_back):
    state = state_after(*decisions)

    assert state.champions == champions
    assert state.rolled_back == rolled_back
    assert state.champion == champions[-1]
    assert state.previous == (champions[-2] if len(champions) > 1 else None)


def test_a_removed_champion_leaves_its_predecessor_to_roll_back_to():
    state = state_after(("promoted", 1), ("promoted", 2), ("external", 2, {"removed": True}))
    assert (state.champion, state.previous, state.rolled_back) == (None, 1, {2})


def test_a_refused_version_is_challenger_until_it_is_promoted():
    state = state_after(("promoted", 1), ("refused", 2, {"becomes_challenger": True}))

    assert state.challenger == 2
    assert state.apply(decision("refused", 3, 2, 3)).challenger == 2
    assert state.apply(decision("promoted", 2, 2, 3)).challenger is None
    assert state.apply(decision("external", 4, 2, 3, alias=CHALLENGER)).challenger == 4
    assert state.apply(decision("external", 2, 2, 3, alias=CHALLENGER, removed=True)).challenger is None


@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.sampled_from(["promoted", "refused", "restored", "external"])), max_size=12
    )
)
def test_of_decisions_with_one_parent_only_the_first_counts(drawn):
    """However writers interleave, each decision that counts follows the one before it that counted."""
    state, last = RegistryState(), 0
    for number, (parent, kind) in enumerate(drawn, start=1):
        after = state.apply(decision(kind, number, parent, number))
        assert (after is state) == (parent != last)
        if after is not state:
            assert after.head == number
            last = number
        state = after
    assert state.champion not in state.rolled_back
    assert state.challenger is None or state.challenger != state.champion


def test_an_empty_log_is_no_error(log):
    assert log.read() == ([], RegistryState())


def test_appended_decisions_are_read_again(log):
    first = add(log, "promoted", 1, 0, facts={"delta_macro_f1": 0.25, "test_digest": "ab"})
    second = add(log, "refused", 2, first.number, becomes_challenger=True)
    decisions, state = DecisionLog(log._client, MODEL).read()

    assert [first, second] == decisions
    assert first.facts == {"delta_macro_f1": 0.25, "test_digest": "ab"}
    assert first.at > 1.7e12
    assert (state.champions, state.challenger) == ((1,), 2)


def test_the_later_of_two_with_one_parent_is_ignored(log):
    assert add(log, "promoted", 1, 0) is not None
    assert add(log, "promoted", 2, 0) is None
    decisions, state = log.read()
    assert state.champions == (1,)
    assert len(decisions) == 1
    assert add(log, "promoted", 2, state.head).number == 3


def test_a_seeded_decision_is_read_and_not_written(log, client):
    add(log, "promoted", 1, 0)
    log.seed(decision("external", 2, 1))
    assert log.read()[1].champions == (1, 2)
    assert DecisionLog(client, MODEL).read()[1].champions == (1,)


def test_a_request_that_was_sent_twice_counts_once(log, run_id):
    """A client whose connection breaks after the server acted sends the request again."""
    one = dataclasses.replace(decision("promoted", 1, 0), run_id=run_id)
    log._send(one)

    assert log.append(one).number == 1
    assert len(log.read()[0]) == 1


def test_threads_that_append_together_agree_on_the_order(log):
    won = []

    def promote(version):
        own = DecisionLog(log._client, MODEL)
        while True:
            appended = add(own, "promoted", version, own.read()[1].head)
            if appended is not None:
                won.append(appended)
                return

    threads = [threading.Thread(target=promote, args=(version,)) for version in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    decisions, state = log.read()

    assert sorted(one.version for one in won) == [1, 2, 3]
    assert [one.parent for one in decisions] == [0, *(one.number for one in decisions[:-1])]
    assert state.champions == tuple(one.version for one in decisions)


def test_decisions_of_older_versions_are_read(log, client):
    """The names of the fields and kinds until commit 8e3e5c1."""
    older = {"version": 1, "replaced": None, "why": "w", "by": "ann", "run_id": "r", "facts": {}, "key": "k"}
    client.create_registered_model(log.name)
    for kind, after in (("adopted", 0), ("refused", 1)):
        content = {"kind": kind, "after": after, "becomes_challenger": False, **older}
        client.create_model_version(log.name, "models:/emotions/1", tags={"entry": json.dumps(content)})
    decisions, state = log.read()

    assert [(one.kind, one.parent) for one in decisions] == [("external", 0), ("refused", 1)]
    assert state.champions == (1,)


def test_a_version_that_is_no_decision_is_named(log, client):
    add(log, "promoted", 1, 0)
    client.create_model_version(log.name, "models:/emotions/1")

    with pytest.raises(RegistryError, match=f"Version 2 of {log.name}"):
        log.read()


def test_a_deleted_decision_is_missed(log, client):
    """Else the decisions after it would be ignored, and an old champion would come back."""
    first = add(log, "promoted", 1, 0)
    second = add(log, "promoted", 2, first.number)
    add(log, "promoted", 3, second.number)
    client.delete_model_version(log.name, str(second.number))

    with pytest.raises(RegistryError, match=r"Decision 2 .* decision 3"):
        log.read()
