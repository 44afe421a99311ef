"""How sources of data sets are recorded, and runs created."""

import pytest
import tenacity

from trainer.tracking.backend import MlflowBackend, dataset_source

COMMIT = "add492243ff905527e67aeb8b80c082af02207c3"


@pytest.mark.parametrize(
    ("source", "fields"),
    [
        (f"google/go_emotions@{COMMIT}", {"path": "google/go_emotions", "revision": COMMIT}),
        ("o/n:c-1@main", {"path": "o/n", "config_name": "c-1", "revision": "main"}),
        ("o/n@refs/pr/3", {"path": "o/n", "revision": "refs/pr/3"}),
    ],
)
def test_a_hub_data_set_has_path_config_and_revision_in_fields_of_their_own(source, fields):
    assert dataset_source(source) == ("hugging_face", fields)


@pytest.mark.parametrize("source", ["starter", "my data/x", "/data/moods@2", "a/b/c@d"])
def test_anything_else_is_a_path(source):
    assert dataset_source(source) == ("local", {"uri": source})


def test_a_folder_that_exists_is_no_hub_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "o" / "n@1").mkdir(parents=True)
    assert dataset_source("o/n@1") == ("local", {"uri": "o/n@1"})


def test_a_run_whose_creation_was_not_answered_for_long_is_created_once(database, monkeypatch):
    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda seconds: None)
    create, answers = database.create_run, iter([False] * 12)  # the first request arrives

    def lose_answers(*arguments, **options):
        create(*arguments, **options)
        raise ConnectionError("no answer")

    def stay_away(*_):
        if next(answers, True):
            return find(*_)
        raise ConnectionError("no answer")

    find = database.search_runs
    monkeypatch.setattr(database, "create_run", lose_answers)
    monkeypatch.setattr(database, "search_runs", stay_away)

    run = MlflowBackend(database, "uri").create_run("0", {}, "made once")

    assert run.info.run_name == "made once"
    assert len(find(["0"])) == 1
