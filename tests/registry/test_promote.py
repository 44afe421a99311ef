"""Promotions and rollbacks on a store, but for the process that tries a model."""

import dataclasses

import pytest
from kept_stores import copy_store, make_reigns
from registry_parts import FINE, LABELS, MODEL, Commands, make_truth


@pytest.fixture
def client(tracking_uri, monkeypatch, tmp_path):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    return MlflowClient(tracking_uri)


@pytest.fixture
def desk(client, tried, tmp_path):
    """Commands, and what they leave."""
    return Commands(client, tmp_path)


@pytest.fixture(scope="module")
def one_reign(tmp_path_factory, _migrated_store):
    """Folder of a store with one champion."""
    folder = tmp_path_factory.mktemp("reign")
    make_reigns(folder, _migrated_store, (0.8,))
    return folder


@pytest.fixture(scope="module")
def three_reigns(tmp_path_factory, _migrated_store):
    """Folder of a store where versions 1, 2 and 3 became champion one after the other, and their runs."""
    folder = tmp_path_factory.mktemp("reigns")
    return folder, make_reigns(folder, _migrated_store, (0.75, 0.87, 0.97))


def test_the_first_champion_is_the_best_by_dev(desk, tried):
    desk.run(0.8)
    best = desk.run(0.9)
    desk.run(0.85)
    assert desk.promote() == 0

    assert desk.run_of("champion") == best
    assert desk.aliases() == {"champion": 1}
    assert "the best of 3 runs by dev/macro_f1, 0.9" in desk.text
    assert "promoted: version 1" in desk.text
    assert desk.last()["decision"] == "promoted"
    assert desk.last()["champion"] is None


def test_ranking_never_looks_at_test(desk):
    """The one with the better dev score is chosen, however it does on test."""
    modest = desk.run(0.8, dev_score=0.95)
    desk.run(0.99, dev_score=0.5)
    desk.promote()

    assert desk.run_of("champion") == modest


def test_a_better_one_replaces_the_champion(desk, client):
    old = desk.run(0.8)
    desk.promote()
    new = desk.run(0.95, seed=2)
    assert desk.promote() == 0

    assert desk.run_of("champion") == new
    assert desk.run_of("previous") == old
    decision = desk.last()
    assert decision["champion"]["run_id"] == old
    assert decision["figures"]["delta_macro_f1_low"] > 0
    assert [row["label"] for row in decision["per_label"]] == list(LABELS)
    assert {"difference", "low", "high", "positives"} <= set(decision["per_label"][0])
    assert {file.path for file in client.list_artifacts(desk.last_run.info.run_id)} == {
        "promotion.json",
        "promotion.png",
    }
    assert desk.last_run.info.status == "FINISHED"
    assert (decision["version"], decision["ledger_entry"]) == (2, 2)
    assert desk.last_run.data.metrics["promotion/delta_macro_f1"] == decision["figures"]["delta_macro_f1"]
    tags = client.get_model_version(MODEL, "2").tags
    assert tags["promotion.decision"] == "promoted"
    assert tags["promotion.replaced"] == "1"
    assert float(tags["promotion.delta_macro_f1_low"]) > 0
    assert tags["promotion.test_digest"] == decision["candidate"]["test_digest"]


def test_one_that_is_not_beyond_doubt_becomes_challenger(desk, client):
    desk.run(0.9)
    desk.promote()
    desk.run(0.9, seed=2, dev_score=0.99)
    assert desk.promote() == 0

    assert desk.aliases() == {"champion": 1, "challenger": 2}
    assert "BROKEN gain in macro F1" in desk.text
    assert "refused: version 2" in desk.text
    assert desk.last()["decision"] == "refused"
    assert client.get_model_version(MODEL, "2").tags["promotion.decision"] == "refused"


def test_a_dry_run_changes_nothing(desk):
    desk.run(0.9)
    assert desk.promote("--dry_run", "true") == 0

    assert "dry run, would be promoted" in desk.text
    assert desk.entries() == []
    assert desk.versions() == 0
    assert desk.last()["dry_run"] is True
    assert desk.last()["ledger_entry"] is None
    assert "promotion.decision" not in desk.last_run.data.tags
    assert desk.last_run.data.tags["promotion.would_be"] == "promoted"


def test_a_dry_run_mends_and_takes_over_nothing(desk, client, tmp_path):
    from trainer.tracking.connection import connect

    version = connect().register(desk.run(0.8), MODEL, tmp_path / "no-card")
    client.set_registered_model_alias(MODEL, "champion", str(version))
    desk.run(0.95, seed=2)
    assert desk.promote("--dry_run", "true") == 0
    assert "gain in macro F1" in desk.text  # compared with the champion that stands there
    assert desk.entries() == []

    desk.promote()
    client.set_registered_model_alias(MODEL, "champion", "1")
    desk.promote("--dry_run", "true")
    assert desk.aliases() == {"champion": 1, "previous": 1}


def test_the_champion_is_not_judged_against_itself(desk, tried):
    desk.run(0.9)
    desk.promote()
    tried.uris.clear()
    assert desk.promote() == 0

    assert "champion already" in desk.text
    assert len(desk.entries()) == 1
    assert tried.uris == []


def test_a_run_that_is_named_is_the_candidate(desk):
    named = desk.run(0.8)
    desk.run(0.9)
    desk.promote("--run_id", named)

    assert desk.run_of("champion") == named


@pytest.mark.parametrize(
    ("found", "rule"),
    [
        (dataclasses.replace(FINE, score_difference=2e-4), "scores as its run did"),
        (dataclasses.replace(FINE, score_difference=float("nan")), "scores as its run did"),
        (dataclasses.replace(FINE, latency_ms_p95=501.0), "answers fast"),
        (dataclasses.replace(FINE, size_mb=2001.0), "is small"),
        ("its process ended with status 1: pickle", "loads"),
    ],
)
def test_a_model_that_fails_a_trial_is_refused_and_no_challenger(desk, tried, found, rule):
    desk.run(0.9)
    tried.found = found
    assert desk.promote() == 0

    assert desk.aliases() == {}
    assert f"BROKEN {rule}" in desk.text
    assert desk.entries()[0].kind == "refused"


def test_a_leak_stops_a_candidate(desk):
    desk.run(0.9, left_in_train=3)
    desk.promote()

    assert "BROKEN no leak: 3 rows of dev and test stand in train" in desk.text
    assert "champion" not in desk.aliases()


class TestARunTrainedOnDevToo:
    """It has no score on dev and no predictions there."""

    def test_it_becomes_champion_when_it_is_named(self, desk):
        modest = desk.run(0.8)
        best = desk.run(0.95, seed=2, retrain_from=modest)
        desk.promote()
        assert desk.run_of("champion") == modest
        assert "the best of 1 runs" in desk.text
        assert desk.promote("--run_id", best) == 0
        assert desk.run_of("champion") == best
        assert desk.last()["candidate"]["dev/macro_f1"] is None

    def test_test_rows_in_what_it_was_trained_on_stop_it(self, desk):
        run_id = desk.run(0.9, left_in_train=2, retrain_from="another")
        desk.promote("--run_id", run_id)
        assert "BROKEN no leak: 2 rows" in desk.text
        assert "champion" not in desk.aliases()

    def test_it_needs_its_other_artifacts(self, desk):
        run_id = desk.run(0.9, retrain_from="another", without=["predictions/test.parquet"])
        assert desk.promote("--run_id", run_id) == 1
        assert "without predictions/test.parquet" in desk.text


def test_runs_with_other_test_rows_are_left_out_of_the_choice(desk):
    desk.run(0.8)
    desk.promote()
    desk.run(0.99, truth=make_truth(seed=9))
    fitting = desk.run(0.95, seed=2)
    desk.promote()

    assert desk.run_of("champion") == fitting
    assert "1 runs with other test rows than the champion's are left out" in desk.text


class TestRefusals:
    """Bad input: an error that says what to do, exit status 1, and nothing changed."""

    @pytest.fixture
    def tracking_uri(self, one_reign, tmp_path):
        return copy_store(one_reign, tmp_path)

    def assert_refused(self, desk, status, *words):
        assert status == 1
        for word in words:
            assert word in desk.text
        assert len(desk.entries()) == 1
        assert desk.aliases() == {"champion": 1}

    def test_of_unknown_runs(self, desk):
        self.assert_refused(desk, desk.promote("--run_id", "f" * 32), "run must exist", "f" * 32)

    @pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
    def test_of_runs_that_did_not_end_well(self, desk, status):
        run_id = desk.run(0.9, status=status)
        self.assert_refused(desk, desk.promote("--run_id", run_id), "must be a run that has FINISHED", status)

    def test_of_runs_without_a_model(self, desk):
        run_id = desk.run(0.9, model=False)
        self.assert_refused(desk, desk.promote("--run_id", run_id), "candidate must have a model")

    @pytest.mark.parametrize("name", ["dataset.json", "predictions/test.parquet", "report.html"])
    def test_of_runs_that_lack_an_artifact(self, desk, name):
        run_id = desk.run(0.9, without=[name])
        self.assert_refused(desk, desk.promote("--run_id", run_id), "must have all artifacts", name)

    def test_of_other_labels(self, desk):
        run_id = desk.run(0.9, names=("anger", "grief", "pride"))
        self.assert_refused(desk, desk.promote("--run_id", run_id), "must have the labels", "'joy', 'pride'")

    def test_of_other_test_rows(self, desk):
        run_id = desk.run(0.9, truth=make_truth(seed=9))
        self.assert_refused(desk, desk.promote("--run_id", run_id), "must have the test rows of the champion")

    def test_of_unknown_experiments(self, desk):
        self.assert_refused(desk, desk.promote("--experiment", "nowhere"), "experiment must exist", "nowhere")

    @pytest.mark.parametrize("name", ["it's", "a/b", "emotions-ledger", ""])
    def test_of_names_that_no_model_has(self, desk, name):
        status = desk.promote("--registered_model", name or "preset")
        assert status == (1 if name else 0)
        assert not name or "registered_model must be" in desk.text

    def test_of_unknown_settings(self, desk):
        self.assert_refused(desk, desk.promote("--min_gian", "1"), "Did you mean `min_gain`?")

    def test_of_users_who_may_not(self, desk, monkeypatch):
        """As a server with authentication answers them."""
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

        run_id = desk.run(0.95, seed=2)

        def deny(*_, **__):
            raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

        monkeypatch.setattr(MlflowClient, "create_model_version", deny)
        self.assert_refused(desk, desk.promote("--run_id", run_id), "Permission denied")
        assert desk.last_run.info.status == "FAILED"

    def test_of_versions_that_do_not_exist(self, desk):
        self.assert_refused(desk, desk.rollback("--version", "9"), "version must exist", "which has 1")

    def test_of_rollbacks_with_nothing_behind(self, desk):
        self.assert_refused(desk, desk.rollback(), "must have an earlier champion")

    def test_of_a_rollback_to_the_champion(self, desk):
        self.assert_refused(desk, desk.rollback("--version", "1"), "which is champion")


def test_without_runs_there_is_an_error(desk, client):
    client.create_experiment("emotions")
    assert desk.promote() == 1
    assert "experiment must have a finished run with a model" in desk.text


def test_first_candidates_of_two_test_sets_are_not_compared(desk):
    first, second = desk.run(0.9), desk.run(0.8, truth=make_truth(seed=9))
    assert desk.promote() == 1

    assert first in desk.text
    assert second in desk.text


class TestRollback:
    @pytest.fixture
    def tracking_uri(self, three_reigns, tmp_path):
        return copy_store(three_reigns[0], tmp_path)

    @pytest.fixture
    def reigns(self, desk, three_reigns):
        """Runs of versions 1, 2 and 3, which became champion one after the other."""
        assert desk.aliases() == {"champion": 3, "previous": 2}
        return three_reigns[1]

    def test_restores_the_one_before(self, desk, reigns, tried):
        tried.uris.clear()
        assert desk.rollback("--reason", "sad texts came out as joy") == 0

        assert desk.aliases() == {"champion": 2, "previous": 1}
        assert tried.uris == ["models:/emotions/2"]
        assert desk.last()["decision"] == "restored"
        assert desk.last()["why"] == "sad texts came out as joy"
        assert desk.last()["figures"]["delta_macro_f1"] < 0
        assert "promotion.png" in {file.path for file in desk.client.list_artifacts(desk.last_run.info.run_id)}

    def test_twice_goes_two_back(self, desk, reigns):
        desk.rollback()
        desk.rollback()

        assert desk.aliases() == {"champion": 1}
        assert desk.rollback() == 1

    def test_to_a_version_that_is_named(self, desk, reigns):
        assert desk.rollback("--version", "1") == 0
        assert desk.aliases() == {"champion": 1}
        assert desk.rollback("--version", "3") == 0
        assert desk.aliases() == {"champion": 3, "previous": 1}

    def test_is_refused_when_the_version_does_not_load(self, desk, reigns, tried):
        tried.found = "its process ended with status 1"
        assert desk.rollback() == 1

        assert "version must load and score as its run did" in desk.text
        assert desk.aliases() == {"champion": 3, "previous": 2}

    def test_versions_that_were_deleted_since_are_in_nobodys_way(self, desk, reigns):
        desk.rollback()
        desk.client.delete_model_version(MODEL, "1")
        desk.client.delete_model_version(MODEL, "3")
        newest = desk.run(0.99, seed=5)
        assert desk.promote() == 0

        assert desk.run_of("champion") == newest
        assert desk.aliases() == {"champion": 4, "previous": 2}
        assert "other models judged on these test rows before: 3" in desk.text

    @pytest.mark.parametrize("content", ["{", "{}"])
    def test_replaces_a_champion_with_a_damaged_artifact(self, desk, reigns, tmp_path, content):
        damaged = tmp_path / "calibration.json"
        damaged.write_text(content)
        desk.client.log_artifact(reigns[2], str(damaged))
        assert desk.rollback() == 0

        assert "not compared with the champion" in desk.text
        assert "calibration.json" in desk.text or "temperature" in desk.text
        assert desk.promote("--run_id", reigns[2]) == 1
        assert f"run_id='{reigns[2]}' with a damaged one" in desk.text

    def test_to_the_challenger_makes_it_one_no_longer(self, desk, reigns):
        desk.run(0.97, seed=9, dev_score=0.99)
        desk.promote()
        assert desk.aliases()["challenger"] == 4
        desk.rollback("--version", "4")

        assert desk.aliases() == {"champion": 4, "previous": 2}

    def test_marks_what_was_taken_back(self, desk, reigns):
        desk.rollback()
        tags = {version: desk.client.get_model_version(MODEL, str(version)).tags for version in (2, 3)}
        assert tags[3]["promotion.withdrawn"] == "by a rollback"
        assert tags[2]["promotion.decision"] == "restored"

        desk.rollback("--version", "3")
        assert "promotion.withdrawn" not in desk.client.get_model_version(MODEL, "3").tags

    def test_replaces_a_champion_that_was_deleted(self, desk, reigns):
        desk.client.delete_model_version(MODEL, "3")
        assert desk.rollback() == 0

        assert "not compared with the champion: RegistryError: version must exist" in desk.text
        assert desk.aliases() == {"champion": 2, "previous": 1}

    def test_keeps_what_was_rolled_back_from_coming_back_by_itself(self, desk, reigns):
        desk.rollback()
        desk.promote()
        assert "whose model was rolled back are left out" in desk.text
        assert desk.aliases()["champion"] == 2

        assert desk.promote("--run_id", reigns[2]) == 0, desk.text
        assert desk.aliases() == {"champion": 3, "previous": 2}

    def test_history_tells_it_all_from_the_server(self, desk, reigns):
        desk.rollback("--reason", "too slow")
        assert desk.history() == 0

        for words in ("version 1 promoted", "version 2 promoted, in place of version 1", "version 2 restored, in"):
            assert words in desk.text
        assert "too slow" in desk.text
        assert "champion: version 2, before it version 1" in desk.text


def test_history_of_nothing_is_an_error(desk):
    assert desk.history() == 1
    assert "must have a ledger" in desk.text
    assert "Registered there: none" in desk.text


def test_a_champion_from_before_the_ledger_is_taken_over(desk, client, tmp_path):
    from trainer.tracking.connection import connect

    version = connect().register(desk.run(0.8), MODEL, tmp_path / "no-card")
    client.set_registered_model_alias(MODEL, "champion", str(version))
    better = desk.run(0.95, seed=2)
    desk.promote()

    assert [entry.kind for entry in desk.entries()] == ["adopted", "promoted"]
    assert desk.run_of("champion") == better
    assert desk.aliases()["previous"] == version


def test_who_may_only_read_sees_the_history(desk, client, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    desk.run(0.8)
    desk.promote()
    client.delete_registered_model_alias(MODEL, "champion")

    def deny(*_, **__):
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", deny)
    assert desk.history() == 0
    assert "version 1 promoted" in desk.text
    assert "could not be mended: MlflowException: Permission denied" in desk.text


def test_aliases_out_of_step_are_mended_aloud(desk, client):
    desk.run(0.8)
    desk.promote()
    client.delete_registered_model_alias(MODEL, "champion")
    assert desk.history() == 0

    assert "warning: alias champion: none -> version 1: mended" in desk.text
    assert desk.aliases() == {"champion": 1}
