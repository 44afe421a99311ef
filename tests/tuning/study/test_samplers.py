"""Samplers and pruners by name, when they begin to model, and when they begin to prune."""

from typing import get_args, get_type_hints

import optuna
import pytest
from optuna import pruners, samplers

from tuning.config import SearchConfig
from tuning.study.pruners import make_pruner
from tuning.study.samplers import make_sampler, startup_trials

SAMPLERS = {
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
    "cmaes": samplers.CmaEsSampler,
    "random": samplers.RandomSampler,
    "grid": samplers.RandomSampler,
}
PRUNERS = {
    "auto": pruners.HyperbandPruner,
    "hyperband": pruners.HyperbandPruner,
    "median": pruners.MedianPruner,
    "successive_halving": pruners.SuccessiveHalvingPruner,
    "wilcoxon": pruners.WilcoxonPruner,
    "none": pruners.NopPruner,
}


class TestSamplers:
    def test_each_choice_is_one(self):
        assert set(SAMPLERS) == set(get_args(get_type_hints(SearchConfig)["sampler"]))
        for name, kind in SAMPLERS.items():
            assert type(make_sampler(SearchConfig(sampler=name), 1)) is kind

    @pytest.mark.parametrize("name", SAMPLERS)
    def test_the_same_seed_suggests_the_same_and_another_one_another(self, name, storage):
        def suggestions(seed, study_name):
            made = optuna.create_study(
                storage=storage, study_name=study_name, sampler=make_sampler(SearchConfig(sampler=name), seed)
            )
            found = []
            for _ in range(3):
                trial = made.ask()
                found.append((trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)))
                made.tell(trial, sum(found[-1]))
            return found

        first = suggestions(1, "a")
        assert suggestions(1, "b") == first
        assert suggestions(2, "c") != first
        assert suggestions(None, "d") != suggestions(None, "e")


class TestPruners:
    def test_each_choice_is_one(self):
        assert set(PRUNERS) == set(get_args(get_type_hints(SearchConfig)["pruner"]))
        for name, kind in PRUNERS.items():
            asked = SearchConfig(pruner=name, repeats=4 if name == "wilcoxon" else 1)
            assert type(make_pruner(asked)) is kind
        assert type(make_pruner(SearchConfig(against="size"))) is pruners.NopPruner
        assert type(make_pruner(SearchConfig(repeats=4))) is pruners.WilcoxonPruner

    @pytest.mark.parametrize("reports", [6, 9, 30])
    @pytest.mark.parametrize("name", ["hyperband", "median", "successive_halving"])
    def test_no_trial_is_judged_before_a_third_of_its_training(self, name, reports, storage):
        pruner = make_pruner(SearchConfig(pruner=name, reports=reports))
        made = optuna.create_study(storage=storage, study_name="s", direction="maximize", pruner=pruner)
        for number in range(30):
            trial = made.ask()
            for step in range(1, reports // 3):
                trial.report(-number, step)
                assert not trial.should_prune()
            made.tell(trial, -number)

    @pytest.mark.parametrize("reports", [2, 9, 30])
    @pytest.mark.parametrize("name", ["hyperband", "median", "successive_halving"])
    def test_a_trial_far_below_all_others_is_stopped_before_its_end(self, name, reports, storage):
        asked = SearchConfig(pruner=name, reports=reports)
        made = optuna.create_study(storage=storage, study_name="s", direction="maximize", pruner=make_pruner(asked))
        stopped = []
        for number in range(30):
            trial, quality = made.ask(), 0.0 if number >= 20 else 0.5 + number / 100
            for step in range(1, reports + 1):
                trial.report(quality, step)
                if step < reports and trial.should_prune():
                    stopped.append((number, step))
                    break
            made.tell(trial, quality)
        assert any(number >= 20 for number, _ in stopped)


class TestStartup:
    @pytest.mark.parametrize(
        ("trials", "workers", "startup"),
        [(10, 1, 3), (10, 2, 2), (10, 4, 1), (40, 1, 10), (40, 4, 7), (100, 1, 10), (1, 1, 1), (4, 8, 1)],
    )
    def test_is_a_third_of_the_trials_with_those_of_other_workers(self, trials, workers, startup):
        assert startup_trials(trials, workers) == startup

    @pytest.mark.parametrize("workers", [1, 4])
    def test_tpe_models_most_of_the_default_trials(self, workers, storage, monkeypatch):
        modelled = []
        sample = samplers.TPESampler._sample

        def record(self, study, trial, search_space):
            modelled.append(trial.number)
            return sample(self, study, trial, search_space)

        monkeypatch.setattr(samplers.TPESampler, "_sample", record)
        config = SearchConfig()
        made = optuna.create_study(storage=storage, sampler=make_sampler(config, 1, workers), direction="maximize")
        running = []
        for _ in range(config.trials):  # with as many trials running as there are workers
            if len(running) == workers:
                made.tell(running.pop(0), 0.5)
            trial = made.ask()
            trial.suggest_float("x", 0, 1)
            running.append(trial)
        assert len(set(modelled)) > config.trials / 2
