"""Finals, and searches of every kind: losses, objectives, seeds, samplers, grids, warm starts. Trainings are faked."""

import json

import pytest
from mlflow import MlflowClient

from trainer.config import parse
from trainer.core.settings import flatten
from tuning.study.trials import Attribute


class TestFinals:
    def test_the_best_settings_are_trained_again_and_the_winner_alone_reads_test(self, searches):
        code, output = searches.run(trials=5, top_k=2, seeds=2, pruner="none")

        assert code == 0, output
        best = sorted(searches.study.trials, key=lambda trial: -trial.value)[:2]
        runs = {run.info.run_id: run for run in searches.runs()}
        (study_run,) = [run for run in runs.values() if run.data.tags.get("command") == "tune"]
        study_name = searches.study.study_name
        prefixes = (f"{study_name} final ", f"{study_name} winner")
        finals = [run for run in runs.values() if run.info.run_name.startswith(prefixes)]
        assert {run.data.tags["tuning.study"] for run in finals} == {study_name}
        assert {run.data.tags["tuning.trial"] for run in finals} == {str(trial.number) for trial in best}
        assert f"[{study_name} winner](" in study_run.data.tags["mlflow.note.content"]
        used = [json.loads((searches.output / run.info.run_id / "config.json").read_text()) for run in finals]
        assert sorted((one["learning_rate"], one["seed"]) for one in used) == sorted(
            (trial.params["learning_rate"], seed) for trial in best for seed in (43, 44)
        )
        with_test = [
            path.parent.name
            for path in searches.output.glob("*/outcome.json")
            if "test/macro_f1" in json.loads(path.read_text())
        ]
        assert with_test == [study_run.data.tags["tuning.winner"]]
        assert not list(searches.output.glob("*/checkpoints/*"))
        assert study_run.data.metrics["search/best"] == pytest.approx(best[0].value)
        assert study_run.data.metrics["test/macro_f1"] == pytest.approx(best[0].value - 0.02, abs=0.01)

    def test_its_preset_chooses_by_the_score_that_was_searched(self, searches):
        code, output = searches.run(trials=2, top_k=1, seeds=1, objective="macro_ap", pruner="none")

        assert code == 0, output
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        preset = searches.output / run.info.run_id / "winner.yaml"
        assert flatten(parse(["--preset", str(preset)]))["best_metric"] == "macro_ap"

    def test_what_the_run_of_the_study_holds(self, searches):
        code, output = searches.run(trials=9, top_k=1, seeds=1, pruner="none", draws=True)
        assert code == 0, output
        client = MlflowClient()
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        names = {path.path for path in client.list_artifacts(run.info.run_id)}

        assert {"report.html", "trials.json", "winner.yaml"} <= names
        preset = client.download_artifacts(run.info.run_id, "winner.yaml")
        again = flatten(parse(["--preset", preset]))
        winner = json.loads((searches.output / run.data.tags["tuning.winner"] / "config.json").read_text())
        ours = ("preset", "seed", "output", "read_test", "resume")
        assert {name: value for name, value in winner.items() if name not in ours} == {
            name: value for name, value in again.items() if name not in ours
        }


class TestOtherSearches:
    def test_over_two_losses(self, searches):
        searches.write_space("margin: {low: 0.0, high: 0.2, when: {loss: [asl]}}\n")
        code, output = searches.run(trials=8, losses="bce,asl", pruner="none")

        assert code == 0, output
        for trial in searches.study.trials:
            assert ("margin" in trial.params) == (trial.params["loss"] == "asl")
            assert searches.config(trial)["loss"] == trial.params["loss"]
        assert {trial.params["loss"] for trial in searches.study.trials} == {"bce", "asl"}

    def test_for_two_goals(self, searches):
        code, output = searches.run(trials=6, against="size", top_k=1, seeds=1, draws=True)

        assert code == 0, output
        assert all(trial.values[1] == 10.0 * trial.params["epochs"] for trial in searches.study.trials)
        (run,) = [run for run in searches.runs() if run.data.tags.get("command") == "tune"]
        assert "figure-pareto_front" in (searches.output / run.info.run_id / "report.html").read_text()

    def test_over_seeds(self, searches):
        code, output = searches.run(trials=3, repeats=2, pruner="none")

        assert code == 0, output
        for trial in searches.study.trials:
            assert list(trial.user_attrs[Attribute.RUNS]) == ["42", "43"]
            scores = [
                json.loads((searches.output / run / "outcome.json").read_text())["dev/macro_f1"]
                for run in trial.user_attrs[Attribute.RUNS].values()
            ]
            assert trial.value == pytest.approx(sum(scores) / 2)

    def test_of_a_whole_grid(self, searches):
        code, output = searches.run(trials=20, sampler="grid", pruner="none")

        assert code == 0, output
        assert len({tuple(trial.params.values()) for trial in searches.study.trials}) == 9

    @pytest.mark.parametrize("sampler", ["gp", "cmaes", "random"])
    def test_with_other_samplers(self, searches, sampler):
        code, output = searches.run(trials=6, sampler=sampler, pruner="none")

        assert code == 0, output
        assert len({trial.params["learning_rate"] for trial in searches.study.trials}) == 6

    def test_that_starts_from_earlier_runs(self, searches):
        searches.run(trials=3, pruner="none")
        client = MlflowClient()
        digests = searches.study.user_attrs["about"]["data"]
        for run in [run for run in searches.runs() if "tuning.trial" in run.data.tags]:
            for role, digest in digests.items():
                client.set_tag(run.info.run_id, f"data.digest.{role}", digest)
            used = json.loads((searches.output / run.info.run_id / "config.json").read_text())
            for name, value in used.items():
                client.log_param(run.info.run_id, f"cfg.{name}", str(value))
        code, output = searches.run(study="t", trials=3, pruner="none", warm_start="emotions")

        assert code == 0, output
        assert "3 configurations from emotions" in output
        second = searches.load("t")
        warm = [trial for trial in second.trials if trial.user_attrs.get(Attribute.WARM_START) == "an earlier run"]
        known = {trial.params["learning_rate"] for trial in searches.study.trials}
        assert warm
        assert {trial.params["learning_rate"] for trial in warm} <= known
