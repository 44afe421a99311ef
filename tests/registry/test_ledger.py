"""The ledger: one order for all, entries that came too late count for nothing, and aliases follow it."""

import dataclasses
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.store import aliases, search
from registry.store.decision_log import Entry, Ledger, State, replay
from trainer.core.errors import RegistryError

MODEL = "emotions"


def entry(kind, version, after, number=0, **more):
    return Entry(
        kind=kind, version=version, after=after, replaced=None, why="why", by="ann", run_id="r", number=number, **more
    )


def told(*decisions):
    """State after decisions that each knew of the one before."""
    return replay(entry(kind, version, place, place + 1) for place, (kind, version) in enumerate(decisions))


@pytest.mark.parametrize(
    ("decisions", "champions", "withdrawn"),
    [
        ([("promoted", 1)], (1,), set()),
        ([("promoted", 1), ("refused", 2), ("promoted", 3)], (1, 3), set()),
        ([("promoted", 1), ("promoted", 2), ("restored", 1)], (1,), {2}),
        # twice back goes two back, and never to and fro
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("restored", 2), ("restored", 1)], (1,), {2, 3}),
        # back to one further down
        ([("promoted", 1), ("promoted", 2), ("promoted", 3), ("restored", 1)], (1,), {2, 3}),
        # a rollback that is itself taken back
        ([("promoted", 1), ("promoted", 2), ("restored", 1), ("restored", 2)], (1, 2), set()),
        # to a version that never was champion: it takes the place of the bad one
        ([("promoted", 1), ("promoted", 2), ("restored", 5)], (1, 5), {2}),
        ([("promoted", 1), ("promoted", 2), ("restored", 1), ("promoted", 2)], (1, 2), set()),
        ([("adopted", 4), ("promoted", 5), ("restored", 4)], (4,), {5}),
    ],
)
def test_decisions_add_up_to_champions(decisions, champions, withdrawn):
    state = told(*decisions)

    assert state.champions == champions
    assert state.withdrawn == withdrawn
    assert state.champion == champions[-1]
    assert state.previous == (champions[-2] if len(champions) > 1 else None)


def test_a_refused_version_is_challenger_until_it_is_promoted():
    refused = entry("refused", 2, 1, 2, becomes_challenger=True)
    state = told(("promoted", 1)).then(refused)

    assert state.challenger == 2
    assert state.then(entry("refused", 3, 2, 3)).challenger == 2
    assert state.then(entry("promoted", 2, 2, 3)).challenger is None
    assert state.then(entry("promoted", 4, 2, 3)).challenger == 2


@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(["promoted", "refused", "restored"])), max_size=12))
def test_of_entries_that_knew_the_same_only_the_first_counts(drawn):
    """However writers interleave, each entry that counts follows the one before it that counted."""
    state, last = State(), 0
    for number, (after, kind) in enumerate(drawn, start=1):
        following = state.then(entry(kind, number, after, number))
        assert (following is state) == (after != last)
        if following is not state:
            assert following.head == number
            last = number
        state = following
    assert state.champion not in state.withdrawn
    assert state.challenger is None or state.challenger != state.champion


@pytest.fixture
def client(tracking_uri):
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri)
    found.create_registered_model(MODEL)
    run = found.create_run("0")
    for _ in range(6):
        found.create_model_version(MODEL, f"runs:/{run.info.run_id}/model", run_id=run.info.run_id)
    return found


@pytest.fixture
def run_id(client):
    return client.get_model_version(MODEL, "1").run_id


@pytest.fixture
def ledger(client):
    return Ledger(client, MODEL)


def add(ledger, kind, version, after, run_id, **more):
    return ledger.append(dataclasses.replace(entry(kind, version, after, **more), run_id=run_id))


def test_an_empty_ledger_is_no_error(ledger):
    assert ledger.read() == ([], State())


def test_what_is_appended_is_read_again(ledger, run_id):
    first = add(ledger, "promoted", 1, 0, run_id, facts={"delta_macro_f1": 0.25, "test_digest": "ab"})
    second = add(ledger, "refused", 2, first.number, run_id, becomes_challenger=True)
    entries, state = Ledger(ledger._client, MODEL).read()

    assert [first, second] == entries
    assert first.facts == {"delta_macro_f1": 0.25, "test_digest": "ab"}
    assert first.at > 1.7e12
    assert (state.champions, state.challenger) == ((1,), 2)


def test_the_later_of_two_that_knew_the_same_is_told_so(ledger, run_id):
    assert add(ledger, "promoted", 1, 0, run_id) is not None
    assert add(ledger, "promoted", 2, 0, run_id) is None
    entries, state = ledger.read()
    assert state.champions == (1,)
    assert len(entries) == 1
    assert add(ledger, "promoted", 2, state.head, run_id).number == 3


def test_a_request_that_was_sent_twice_counts_once(ledger, run_id):
    """A client whose connection breaks after the server acted sends it again."""
    one = dataclasses.replace(entry("promoted", 1, 0), run_id=run_id)
    ledger._send(one)

    assert ledger.append(one).number == 1
    assert len(ledger.read()[0]) == 1


def test_threads_that_append_at_once_agree_on_the_order(ledger, run_id):
    won = []

    def promote(version):
        book = Ledger(ledger._client, MODEL)
        for _ in range(50):
            found = add(book, "promoted", version, book.read()[1].head, run_id)
            if found is not None:
                won.append(found)
                return

    threads = [threading.Thread(target=promote, args=(version,)) for version in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries, state = ledger.read()

    assert sorted(one.version for one in won) == [1, 2, 3, 4, 5, 6]
    assert [one.after for one in entries] == [0, *(one.number for one in entries[:-1])]
    assert state.champions == tuple(one.version for one in entries)


def test_a_version_of_another_hand_is_named(ledger, client, run_id):
    add(ledger, "promoted", 1, 0, run_id)
    client.create_model_version(ledger.name, "models:/emotions/1", run_id=run_id)

    with pytest.raises(RegistryError, match="version=2"):
        ledger.read()


def test_a_deleted_entry_is_missed(ledger, client, run_id):
    """Else the entries after it would count for nothing, and an old champion would come back."""
    first = add(ledger, "promoted", 1, 0, run_id)
    second = add(ledger, "promoted", 2, first.number, run_id)
    add(ledger, "promoted", 3, second.number, run_id)
    client.delete_model_version(ledger.name, str(second.number))

    with pytest.raises(RegistryError, match="without entry 2, which entry 3 follows"):
        ledger.read()


class TestAliases:
    def aliases(self, client):
        return {alias: int(version) for alias, version in client.get_registered_model(MODEL).aliases.items()}

    def test_without_a_ledger_nothing_is_touched(self, client, ledger):
        client.set_registered_model_alias(MODEL, "champion", "3")

        assert aliases.settle(client, MODEL, ledger) == []
        assert self.aliases(client) == {"champion": 3}

    def test_they_follow_the_ledger(self, client, ledger, run_id):
        first = add(ledger, "promoted", 1, 0, run_id)
        second = add(ledger, "refused", 2, first.number, run_id, becomes_challenger=True)
        third = add(ledger, "promoted", 3, second.number, run_id)
        assert len(aliases.settle(client, MODEL, ledger)) == 6
        assert self.aliases(client) == {"champion": 3, "previous": 1, "challenger": 2}
        assert aliases.settle(client, MODEL, ledger) == []

        add(ledger, "restored", 1, third.number, run_id)
        aliases.settle(client, MODEL, ledger)
        assert self.aliases(client) == {"champion": 1, "challenger": 2}

    def test_what_somebody_moved_by_hand_is_put_back_aloud(self, client, ledger, run_id):
        add(ledger, "promoted", 1, 0, run_id)
        aliases.settle(client, MODEL, ledger)
        client.set_registered_model_alias(MODEL, "champion", "4")

        assert aliases.settle(client, MODEL, ledger) == ["alias champion: version 4 -> version 1"]

    def test_tags_tell_of_the_last_decision(self, client, ledger, run_id):
        made = add(ledger, "refused", 2, 0, run_id, facts={"delta_macro_f1": -0.125})
        aliases.settle(client, MODEL, ledger)
        tags = client.get_model_version(MODEL, "2").tags

        assert tags["promotion.decision"] == "refused"
        assert tags["promotion.delta_macro_f1"] == "-0.125"
        assert tags["promotion.by"] == "ann"
        assert tags["promotion.at"].startswith("20")
        assert made.number == int(tags["promotion.entry"])

    def test_tags_of_an_earlier_decision_do_not_stay(self, client, ledger, run_id):
        first = add(ledger, "refused", 2, 0, run_id, facts={"macro_f1_low": 0.1})
        aliases.settle(client, MODEL, ledger)
        add(ledger, "promoted", 2, first.number, run_id, facts={"delta_macro_f1": 0.25})
        aliases.settle(client, MODEL, ledger)

        tags = client.get_model_version(MODEL, "2").tags
        assert "promotion.macro_f1_low" not in tags
        assert tags["promotion.delta_macro_f1"] == "0.25"

    def test_a_deleted_last_entry_is_missed(self, client, ledger, run_id):
        """Else an old champion would come back, and its number be given again."""
        first = add(ledger, "promoted", 1, 0, run_id)
        add(ledger, "promoted", 2, first.number, run_id)
        aliases.settle(client, MODEL, ledger)
        client.delete_model_version(ledger.name, "2")

        with pytest.raises(RegistryError, match="without entry 2, of which a version's tag tells"):
            aliases.settle(client, MODEL, ledger)
        assert self.aliases(client) == {"champion": 2, "previous": 1}

    def test_there_may_be_more_versions_than_a_page_has(self, client, ledger, run_id, monkeypatch):
        monkeypatch.setattr(search, "_PAGE", 2)
        add(ledger, "promoted", 2, add(ledger, "promoted", 1, 0, run_id).number, run_id)
        aliases.settle(client, MODEL, ledger)

        assert self.aliases(client) == {"champion": 2, "previous": 1}
        assert len(ledger.read()[0]) == 2

    def test_many_may_settle_at_once(self, client, ledger, run_id):
        """MLflow refuses all but one of those who set an alias for the first time at the same moment."""
        add(ledger, "promoted", 2, add(ledger, "promoted", 1, 0, run_id).number, run_id)
        failures = []

        def settle():
            try:
                aliases.settle(client, MODEL, ledger)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=settle) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert failures == []
        assert self.aliases(client) == {"champion": 2, "previous": 1}

    def test_a_deleted_version_has_no_alias(self, client, ledger, run_id):
        first = add(ledger, "promoted", 1, 0, run_id)
        add(ledger, "promoted", 2, first.number, run_id)
        aliases.settle(client, MODEL, ledger)
        client.delete_model_version(MODEL, "1")

        assert aliases.settle(client, MODEL, ledger) == []
        assert self.aliases(client) == {"champion": 2}
