"""Aliases and tags follow the decision log; what somebody moved by hand is told from an interrupted command."""

import json
import threading
from pathlib import Path

import pytest
from decision_helpers import MODEL, add

from registry.store import aliases
from registry.store.aliases import Move, external_moves, is_interrupted, write_aliases
from trainer.core.errors import RegistryError
from trainer.tracking import registered_models
from trainer.tracking.registered_models import read_aliases


def test_without_a_log_nothing_is_touched(client, log):
    client.set_registered_model_alias(MODEL, "champion", "3")

    assert write_aliases(client, MODEL, log) == []
    assert read_aliases(client, MODEL) == {"champion": 3}
    assert external_moves(client, MODEL, log) == [Move("champion", None, 3)]


def test_aliases_follow_the_log(client, log):
    first = add(log, "promoted", 1, 0)
    second = add(log, "refused", 2, first.number, becomes_challenger=True)
    third = add(log, "promoted", 3, second.number)
    assert len(write_aliases(client, MODEL, log)) == 6
    assert read_aliases(client, MODEL) == {"champion": 3, "previous": 1, "challenger": 2}
    assert write_aliases(client, MODEL, log) == []

    add(log, "restored", 1, third.number)
    write_aliases(client, MODEL, log)
    assert read_aliases(client, MODEL) == {"champion": 1, "challenger": 2}


def test_a_move_by_hand_is_no_interrupted_command(client, log):
    first = add(log, "promoted", 1, 0)
    write_aliases(client, MODEL, log)
    client.set_registered_model_alias(MODEL, "champion", "4")
    assert external_moves(client, MODEL, log) == [Move("champion", 1, 4)]

    add(log, "promoted", 2, first.number)
    assert is_interrupted(client, MODEL, log)
    assert external_moves(client, MODEL, log) == []
    write_aliases(client, MODEL, log)
    assert read_aliases(client, MODEL) == {"champion": 2, "previous": 1}
    assert not is_interrupted(client, MODEL, log)


def test_a_command_that_is_still_writing_is_neither(client, log, monkeypatch):
    """What differs at the first look and no longer at the second was a command between two of its writes."""
    monkeypatch.setattr(aliases.time, "sleep", lambda _: write_aliases(client, MODEL, log))
    first = add(log, "promoted", 1, 0)
    assert not is_interrupted(client, MODEL, log)

    client.set_registered_model_alias(MODEL, "champion", "4")
    assert external_moves(client, MODEL, log) == []

    client.set_registered_model_alias(MODEL, "champion", "4")
    monkeypatch.setattr(aliases.time, "sleep", lambda _: add(log, "promoted", 2, first.number))
    assert external_moves(client, MODEL, log) == []


def test_tags_are_those_of_the_last_decision(client, log):
    first = add(log, "refused", 2, 0, facts={"macro_f1": 0.1, "delta_macro_f1": -0.125, "ece": 0.1})
    write_aliases(client, MODEL, log)
    assert client.get_model_version(MODEL, "2").tags == {
        "promotion.decision": "refused",
        "promotion.macro_f1": "0.1",
        "promotion.delta_macro_f1": "-0.125",
        "promotion.entry": "1",
    }
    client.set_model_version_tag(MODEL, "2", "promotion.withdrawn", "by a rollback")  # of an older version
    second = add(log, "promoted", 2, first.number, facts={"macro_f1": 0.25})
    write_aliases(client, MODEL, log)
    tags = {"promotion.decision": "promoted", "promotion.macro_f1": "0.25", "promotion.entry": "2"}
    assert client.get_model_version(MODEL, "2").tags == tags

    third = add(log, "promoted", 3, second.number)
    add(log, "restored", 2, third.number)
    write_aliases(client, MODEL, log)
    assert client.get_model_version(MODEL, "3").tags["promotion.decision"] == "rolled_back"


def test_a_deleted_last_decision_is_missed(client, log):
    """Else an old champion would come back, and the number of the decision would be given again."""
    first = add(log, "promoted", 1, 0)
    add(log, "promoted", 2, first.number)
    write_aliases(client, MODEL, log)
    client.delete_model_version(log.name, "2")

    with pytest.raises(RegistryError, match="Decision 2"):
        write_aliases(client, MODEL, log)
    assert read_aliases(client, MODEL) == {"champion": 2, "previous": 1}


def test_there_may_be_more_versions_than_a_page_has(client, log, monkeypatch):
    monkeypatch.setattr(registered_models, "_PAGE", 2)
    add(log, "promoted", 6, add(log, "promoted", 1, 0).number)
    write_aliases(client, MODEL, log)

    assert read_aliases(client, MODEL) == {"champion": 6, "previous": 1}


def test_writers_may_meet(client, log):
    """MLflow refuses all but one of those who set an alias for the first time at the same moment."""
    add(log, "promoted", 2, add(log, "promoted", 1, 0).number)
    failures = []

    def write():
        try:
            write_aliases(client, MODEL, log)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert read_aliases(client, MODEL) == {"champion": 2, "previous": 1}


def test_a_deleted_version_has_no_alias(client, log):
    first = add(log, "promoted", 1, 0)
    add(log, "promoted", 2, first.number)
    write_aliases(client, MODEL, log)
    client.delete_model_version(MODEL, "1")

    assert write_aliases(client, MODEL, log) == []
    assert external_moves(client, MODEL, log) == []
    assert read_aliases(client, MODEL) == {"champion": 2}


def test_a_registry_of_an_older_version_is_continued(client, log):
    """The log, tags and alias that commit 8e3e5c1 left after a promotion."""
    kept = json.loads((Path(__file__).parents[2] / "kept" / "registry.json").read_text())
    client.create_registered_model(log.name)
    for content in kept["decisions"]:
        client.create_model_version(log.name, "models:/emotions/1", tags={"entry": content})
    for name, text in kept["tags_of_version_1"].items():
        client.set_model_version_tag(MODEL, "1", name, text)
    client.set_registered_model_alias(MODEL, "champion", kept["aliases"]["champion"])

    assert external_moves(client, MODEL, log) == []
    assert not is_interrupted(client, MODEL, log)
    client.set_registered_model_alias(MODEL, "champion", "2")
    assert external_moves(client, MODEL, log) == [Move("champion", 1, 2)]

    add(log, "promoted", 3, 1)
    write_aliases(client, MODEL, log)
    assert read_aliases(client, MODEL) == {"champion": 3, "previous": 1}
    tags = {"promotion.decision": "promoted", "promotion.macro_f1": "0.498162", "promotion.entry": "1"}
    assert client.get_model_version(MODEL, "1").tags == tags
