"""Promotions, rollbacks and moves by hand on a store; the process that checks a model is replaced."""

import dataclasses
from pathlib import Path

import killable_command
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from registry_helpers import FINE, LABELS, MODEL, make_truth

from trainer.tracking.connection import connect


def kinds(commands):
    return [decision.kind for decision in commands.decisions()]


class TestPromote:
    def test_the_first_champion_has_the_best_score_on_dev_whatever_its_score_on_test(self, empty):
        best = empty.run(0.8, dev_score=0.95)
        empty.run(0.99, dev_score=0.5)
        assert empty.promote() == 0

        assert empty.run_of("champion") == best
        assert empty.aliases() == {"champion": 1}
        assert empty.last()["decision"] == "promoted"
        assert empty.last()["champion"] is None
        assert [rule["name"] for rule in empty.last()["rules"]] == [
            *("macro F1", "better than predicting every label", "calibration error", "no leak", "loads", "code"),
            *("probabilities", "served as judged", "latency p95", "model size"),
        ]

    def test_a_better_model_replaces_the_champion(self, champions):
        new = champions.run(0.998, seed=5)
        assert champions.promote() == 0

        assert champions.run_of("champion") == new
        assert champions.aliases() == {"champion": 4, "previous": 3}
        decision, run = champions.last(), champions.last_run
        assert decision["champion"]["run_id"] == champions.runs[2]
        assert decision["figures"]["delta_macro_f1_low"] > 0
        assert [row["label"] for row in decision["per_label"]] == list(LABELS)
        assert {"difference", "low", "high", "positives"} <= set(decision["per_label"][0])
        assert (decision["version"], decision["decision_number"]) == (4, 4)
        artifacts = {file.path for file in champions.client.list_artifacts(run.info.run_id)}
        assert artifacts == {"promotion.json", "promotion.png"}
        assert run.info.status == "FINISHED"
        note = run.data.tags["mlflow.note.content"]
        assert note.startswith(f"Version 4 of {MODEL} promoted, model of run [")
        assert decision["why"] in note
        assert f"runs/{run.info.run_id}/artifacts/promotion.json" in note
        assert run.data.metrics["promotion/delta_macro_f1"] == decision["figures"]["delta_macro_f1"]
        assert champions.client.get_model_version(MODEL, "4").tags == {
            "promotion.decision": "promoted",
            "promotion.macro_f1": f"{decision['figures']['macro_f1']:.6g}",
            "promotion.delta_macro_f1": f"{decision['figures']['delta_macro_f1']:.6g}",
            "promotion.entry": "4",
        }

    def test_a_refused_model_becomes_challenger_and_the_exit_status_says_so_on_request(self, champions):
        champions.run(0.97, seed=9, dev_score=0.99)
        assert champions.promote("--exit_code", "true") == 2
        assert champions.aliases() == {"champion": 3, "previous": 2, "challenger": 4}
        assert "FAILED macro-F1 gain" in champions.text
        assert champions.last()["decision"] == "refused"
        assert champions.last_run.info.status == "FINISHED"

        assert champions.promote() == 0
        assert kinds(champions)[-2:] == ["refused", "refused"]

    def test_min_seeds_asks_for_a_win_of_the_same_settings_with_other_seeds(self, champions):
        new = champions.run(0.998, seed=5, loss="asl")
        champions.run(0.998, seed=6, loss="focal")
        champions.run(0.998, seed=6, loss="asl", truth=make_truth(seed=8))
        champions.run(0.998, seed=6, loss="asl", without=("calibration.json",))
        assert champions.promote("--run_id", new, "--min_seeds", "3") == 0
        assert kinds(champions)[-1] == "refused"
        rule = next(rule for rule in champions.last()["rules"] if rule["name"] == "seeds")
        assert not rule["passed"]
        assert "(5)" in rule["value"]
        assert "-P seed=6, -P seed=7" in rule["required"]
        assert "FAILED seeds" in champions.text
        assert "seed 6 not used" in champions.text
        assert "seeds: 1 finished" in champions.decisions()[-1].why

        for seed in (2, 3):
            champions.run(0.998, seed=seed, loss="asl")
        assert champions.promote("--run_id", new, "--min_seeds", "3") == 0
        assert champions.run_of("champion") == new
        rules = {rule["name"]: rule for rule in champions.last()["rules"]}
        assert "(2, 3, 5)" in rules["seeds"]["value"]
        assert "one model" in rules["macro-F1 gain over seeds"]["value"]
        assert champions.last_run.data.metrics["promotion/num_seeds"] == 3

    def test_a_model_that_fails_its_check_is_refused_and_is_no_challenger(self, champions, checked):
        champions.run(0.998, seed=5)
        checked.result = dataclasses.replace(FINE, setting_differences=("thresholds of fixed differs",))
        assert champions.promote() == 0

        assert champions.aliases() == {"champion": 3, "previous": 2}
        assert "FAILED served as judged: thresholds of fixed differs" in champions.text
        assert kinds(champions)[-1] == "refused"

    def test_the_model_that_was_checked_is_registered_and_no_later_one_of_its_run(self, empty, checked):
        run = empty.run(0.8)
        experiment = empty.client.get_run(run).info.experiment_id
        empty.client.create_logged_model(experiment, name="model", source_run_id=run)
        assert empty.promote("--run_id", run) == 0
        assert [empty.client.get_model_version(MODEL, "1").source] == checked.uris

    def test_a_dry_run_changes_nothing(self, champions):
        champions.run(0.998, seed=5)
        assert champions.promote("--dry_run", "true") == 0

        assert len(champions.decisions()) == champions.versions() == 3
        assert champions.last()["dry_run"] is True
        assert champions.last()["decision_number"] is None
        tags = champions.last_run.data.tags
        assert (tags["promotion.would_be"], "promotion.decision" in tags) == ("promoted", False)

    def test_the_champion_is_not_judged_against_itself(self, champions, checked):
        assert champions.promote("--exit_code", "true") == 0
        assert "champion already" in champions.text
        assert len(champions.decisions()) == 3
        assert checked.uris == []

    def test_a_run_trained_on_dev_too_is_promoted_when_it_is_named(self, champions):
        named = champions.run(0.998, seed=5, retrain_from=champions.runs[0])
        champions.promote()
        assert champions.aliases()["champion"] == 3
        champions.promote("--run_id", named)
        assert champions.run_of("champion") == named
        assert champions.last()["candidate"]["dev/final/macro_f1"] is None

    def test_an_unusable_candidate_is_an_error_and_changes_nothing(self, champions):
        run_id = champions.run(0.998, without=["report.html"])
        assert champions.promote("--run_id", run_id) == 1
        assert "report.html" in champions.text
        assert champions.promote("--experiment", "nowhere") == 1
        assert "nowhere" in champions.text
        assert champions.aliases() == {"champion": 3, "previous": 2}
        assert len(champions.decisions()) == 3

    def test_a_user_without_permission_gets_the_reason(self, champions, monkeypatch):
        run_id = champions.run(0.998, seed=5)
        forbid(monkeypatch, "create_model_version")
        assert champions.promote("--run_id", run_id) == 1
        assert "Permission denied" in champions.text
        assert champions.last_run.info.status == "FAILED"
        assert champions.aliases() == {"champion": 3, "previous": 2}

    @pytest.mark.parametrize("name", ["it's", "a/b", "emotions-ledger"])
    def test_names_that_no_model_can_have_are_refused(self, empty, name):
        assert empty.promote("--registered_model", name) == 1
        assert "registered_model" in empty.text


class TestRollback:
    def test_restores_the_champion_before(self, champions, checked):
        assert champions.rollback("--reason", "sad texts came out as joy") == 0

        assert champions.aliases() == {"champion": 2, "previous": 1}
        assert checked.uris == ["models:/emotions/2"]
        assert champions.last()["decision"] == "restored"
        assert champions.last()["why"] == "sad texts came out as joy"
        assert champions.last()["figures"]["delta_macro_f1"] < 0
        tags = {number: champions.client.get_model_version(MODEL, str(number)).tags for number in (2, 3)}
        assert tags[2]["promotion.decision"] == "restored"
        assert tags[3]["promotion.decision"] == "rolled_back"

    def test_restores_the_version_that_is_named_although_another_has_its_model(self, champions):
        first = champions.client.get_model_version(MODEL, "1")
        again = champions.client.create_model_version(MODEL, first.source, run_id=first.run_id).version
        assert champions.rollback("--version", str(again)) == 0
        assert champions.aliases()["champion"] == int(again)

    def test_a_rolled_back_model_comes_back_only_when_it_is_named(self, champions):
        champions.rollback()
        champions.promote()
        assert champions.aliases()["champion"] == 2
        assert "left out: 1 runs whose model was rolled back" in champions.text

        assert champions.promote("--run_id", champions.runs[2]) == 0
        assert champions.aliases() == {"champion": 3, "previous": 2}

    def test_a_version_that_fails_its_check_is_not_restored(self, champions, checked):
        checked.result = "its process ended with status 1"
        assert champions.rollback() == 1
        assert "its process ended with status 1" in champions.text
        assert champions.aliases() == {"champion": 3, "previous": 2}

    def test_a_deleted_champion_before_is_passed_over(self, champions):
        champions.client.delete_model_version(MODEL, "2")
        assert champions.rollback() == 0
        assert champions.aliases()["champion"] == 1

    def test_it_needs_another_version_that_exists(self, champions):
        assert champions.rollback("--version", "9") == 1
        assert f"`version` must be a version of {MODEL}, got 9. Its newest versions: 1, 2, 3." in champions.text
        assert champions.rollback("--version", "3") == 1
        assert champions.aliases() == {"champion": 3, "previous": 2}

    def test_a_damaged_champion_is_replaced_and_cannot_come_back(self, champions, tmp_path):
        damaged = tmp_path / "calibration.json"
        damaged.write_text("{}")
        champions.client.log_artifact(champions.runs[2], str(damaged))
        assert champions.rollback() == 0
        assert "not compared with the champion" in champions.text
        assert champions.promote("--run_id", champions.runs[2]) == 1
        assert champions.runs[2] in champions.text

    def test_deleted_versions_do_not_disturb_later_decisions(self, champions):
        champions.client.delete_model_version(MODEL, "3")
        assert champions.rollback() == 0
        assert champions.aliases() == {"champion": 2, "previous": 1}
        champions.client.delete_model_version(MODEL, "1")
        newest = champions.run(0.998, seed=5)
        assert champions.promote() == 0, champions.text
        assert champions.run_of("champion") == newest
        assert champions.aliases() == {"champion": 4, "previous": 2}


class TestChampionThatCannotBeRead:
    def test_a_deleted_version_is_judged_as_none_and_on_the_record(self, champions):
        champions.client.delete_model_version(MODEL, "3")
        better = champions.run(0.998, seed=5)
        assert champions.history() == 0
        assert "champion: version 3 (deleted)" in champions.text
        assert champions.promote("--run_id", better) == 0

        assert champions.run_of("champion") == better
        assert champions.last()["champion"] is None
        assert "champion version 3 was deleted: judged as a first champion" in champions.last()["remarks"]

    def test_the_only_version_deleted_is_replaced_too(self, empty):
        empty.run(0.8)
        empty.promote()
        empty.client.delete_model_version(MODEL, "1")
        assert empty.rollback() == 1
        better = empty.run(0.95, seed=2)
        assert empty.promote("--run_id", better) == 0
        assert empty.run_of("champion") == better

    def test_a_deleted_run_is_named_as_the_champions_and_its_alias_is_the_way_on(self, champions):
        better = champions.run(0.998, seed=5)
        champions.client.delete_run(champions.runs[2])
        assert champions.promote("--run_id", better) == 1
        assert f"Champion version 3 of {MODEL}" in champions.text
        assert "mlflow runs restore" in champions.text
        assert len(champions.text) < 320

        champions.client.delete_registered_model_alias(MODEL, "champion")
        assert champions.promote("--run_id", better) == 0
        assert champions.run_of("champion") == better

    @pytest.mark.parametrize("renamed", [True, False])
    def test_a_model_that_is_gone_is_told_from_its_log(self, champions, checked, renamed):
        if renamed:
            champions.client.rename_registered_model(MODEL, "other")
        else:
            champions.client.delete_registered_model(MODEL)
        for command in (champions.promote, champions.rollback):
            assert command() == 1
            assert f"{MODEL}-ledger" in champions.text
        assert checked.uris == []
        champions.client.create_registered_model(MODEL)  # its versions begin with 1 again
        assert champions.promote() == 1
        assert f"{MODEL}-ledger" in champions.text

        champions.client.delete_registered_model(f"{MODEL}-ledger")
        assert champions.promote() == 0
        assert champions.aliases() == {"champion": 1}

    def test_the_champion_of_another_project_is_left_alone(self, empty, checked):
        other = empty.client.create_run("0").info.run_id
        empty.client.set_terminated(other)
        empty.client.create_registered_model(MODEL)
        empty.client.create_model_version(MODEL, "/elsewhere", run_id=other)
        empty.client.set_registered_model_alias(MODEL, "champion", "1")
        empty.run(0.8)
        assert empty.promote() == 1

        assert f"Champion version 1 of {MODEL}" in empty.text
        assert "registered_model" in empty.text
        assert empty.client.get_model_version(MODEL, "1").tags == {}
        assert empty.decisions() == []

    def test_the_name_of_a_prompt_is_refused_before_the_check(self, empty, checked):
        empty.client.register_prompt(MODEL, "classify {{text}}")
        empty.run(0.8)
        assert empty.promote() == 1
        assert f"`registered_model` must be free or a registered model, got {MODEL}, which is a prompt" in empty.text
        assert (checked.uris, empty.decisions()) == ([], [])


def test_a_user_without_a_name_decides_too(empty, monkeypatch):
    def unnamed():
        raise KeyError("getpwuid(): uid not found: 23456")

    monkeypatch.setattr("getpass.getuser", unnamed)
    monkeypatch.setattr("os.getuid", lambda: 23456)
    empty.run(0.8)
    assert empty.promote() == 0, empty.text
    assert empty.decisions()[0].by == "uid 23456"


def test_a_run_whose_artifacts_were_moved_names_their_place(empty, tmp_path):
    run_id = empty.run(0.8)
    place = Path(empty.client.get_run(run_id).info.artifact_uri)
    place.rename(tmp_path / "moved")
    assert empty.promote("--run_id", run_id) == 1
    assert f"No artifact of run {run_id} is at" in empty.text


class TestMovesByHand:
    """An alias that somebody changes in the UI is kept and recorded, never undone."""

    def test_a_moved_champion_is_what_candidates_are_compared_with(self, champions):
        champions.client.set_registered_model_alias(MODEL, "champion", "1")
        better = champions.run(0.9, seed=5, dev_score=0.99)
        assert champions.promote("--run_id", better) == 0

        assert kinds(champions) == ["promoted", "promoted", "promoted", "external", "promoted"]
        assert champions.decisions()[3].version == 1
        assert champions.last()["champion"]["run_id"] == champions.runs[0]
        assert champions.aliases() == {"champion": 4, "previous": 1}

    def test_a_move_back_counts_as_a_rollback(self, champions):
        champions.client.set_registered_model_alias(MODEL, "champion", "2")
        assert champions.promote() == 0

        assert champions.aliases() == {"champion": 2, "previous": 1}
        assert "left out: 1 runs whose model was rolled back" in champions.text

    def test_a_removed_champion_stays_removed_until_a_rollback(self, champions):
        champions.client.delete_registered_model_alias(MODEL, "champion")
        assert champions.rollback() == 0

        assert [one.removed for one in champions.decisions()] == [False, False, False, True, False]
        assert champions.aliases() == {"champion": 2, "previous": 1}

    def test_a_challenger_set_by_hand_stays(self, champions):
        champions.client.set_registered_model_alias(MODEL, "challenger", "1")
        champions.run(0.998, seed=5)
        champions.promote()

        assert champions.aliases() == {"champion": 4, "previous": 3, "challenger": 1}

    def test_a_move_during_a_promotion_is_compared_with(self, champions, checked):
        better = champions.run(0.998, seed=5)

        checked.during = lambda: champions.client.set_registered_model_alias(MODEL, "champion", "2")
        assert champions.promote("--run_id", better) == 0
        assert kinds(champions)[-2:] == ["external", "promoted"]
        assert champions.last()["champion"]["version"] == 2
        assert champions.aliases() == {"champion": 4, "previous": 2}

    def test_a_dry_run_compares_with_it_and_records_nothing(self, champions):
        champions.client.set_registered_model_alias(MODEL, "champion", "1")
        assert champions.promote("--run_id", champions.runs[1], "--dry_run", "true") == 0

        assert champions.last()["champion"]["version"] == 1
        assert champions.aliases()["champion"] == 1
        assert len(champions.decisions()) == 3

    def test_a_champion_set_before_the_first_promotion_is_recorded(self, empty, tmp_path):
        version = connect().register(empty.run(0.8), MODEL)
        empty.client.set_registered_model_alias(MODEL, "champion", str(version))
        better = empty.run(0.95, seed=2)
        empty.promote()

        assert kinds(empty) == ["external", "promoted"]
        assert empty.run_of("champion") == better
        assert empty.aliases() == {"champion": 2, "previous": 1}


class TestHistory:
    def test_prints_every_decision(self, champions):
        champions.rollback("--reason", "too slow")
        assert champions.history() == 0
        for text in ("version 2 promoted, in place of version 1", "version 2 restored", "too slow"):
            assert text in champions.text
        assert "champion: version 2, before it version 1" in champions.text

    def test_reports_a_move_and_writes_nothing(self, champions, monkeypatch):
        champions.client.set_registered_model_alias(MODEL, "champion", "1")
        forbid(monkeypatch, *killable_command.WRITES)
        assert champions.history() == 0
        assert "alias champion: version 3 -> version 1" in champions.text

    def test_without_decisions_there_is_an_error(self, empty):
        assert empty.history() == 1
        assert MODEL in empty.text


def forbid(monkeypatch, *writes):
    """Answer these calls as a server with authentication does."""

    def deny(*_, **__):
        raise MlflowException("Permission denied", error_code=PERMISSION_DENIED)

    for name in writes:
        monkeypatch.setattr(MlflowClient, name, deny)
