"""The objective: from a trial's settings to its score; the trainings do what the test says."""

import json
import threading

import optuna
import pytest
from optuna.trial import TrialState

from trainer.core import artifacts
from trainer.core.errors import TrackingError
from tuning.execution import objective
from tuning.execution.executor import TrainingFailedError, TrainingKilledError, TrainingServerError
from tuning.execution.monitor import TrialInterruptedError
from tuning.execution.objective import Objective, Phase
from tuning.execution.resources import ResourcePool, Resources
from tuning.study import storage
from tuning.study.trials import Attribute


class FakeRuns:
    def __init__(self):
        self.created, self.closed, self.abandoned, self.errors = [], [], [], []

    def create(self, name, tags):
        if self.errors:
            raise self.errors.pop()
        self.created.append(name)
        return f"run{len(self.created)}"

    def close(self, folder, state, cause=None):
        self.closed.append((folder.name, state, cause))

    def abandon(self, run_id):
        self.abandoned.append(run_id)


class FakeTrainings:
    """An executor that logs scores, one per epoch, and ends with the last; or with an error."""

    def __init__(self):
        self.requests, self.scores, self.error, self.outcome = [], [0.1, 0.2, 0.3], None, None
        self.outages = 0

    def run(self, request, resources, monitor):
        self.requests.append(request)
        if len(self.requests) <= self.outages:
            raise TrainingServerError("Cannot connect to tracking server http://host")
        for epoch, score in enumerate(self.scores, start=1):
            monitor.report([{artifacts.TRAIN_EPOCH: epoch}, {"dev/macro_f1": score}])
            monitor.check()
        (request.folder / artifacts.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        if self.error:
            raise self.error
        outcome = {"dev/macro_f1": self.scores[-1]} if self.outcome is None else self.outcome
        (request.folder / artifacts.OUTCOME).write_text(json.dumps(outcome))
        (request.folder / artifacts.CONFIG).write_text(json.dumps(request.settings))


class PruneAt(optuna.pruners.BasePruner):
    def __init__(self, score=0.0):
        self.score, self.steps = score, []

    def prune(self, study, trial):
        self.steps.append(trial.last_step)
        return trial.intermediate_values[trial.last_step] < self.score


@pytest.fixture
def make(tmp_path, study):
    """An objective, and the trial that it is called with."""

    def call(seeds=(42,), total=9, **changes):
        phase = {
            "study": "s",
            "unit": "trial",
            "name": lambda trial: f"trial {trial.number}",
            "tags": lambda _trial: {},
            "retry_advice": "",
            "settings": {"epochs": 3, "output": str(tmp_path)},
            "output": tmp_path,
            "metrics": ("dev/macro_f1",),
            "reports": 3,
            "prunes_by_seed": False,
            "max_seconds": 0,
            "epochs": 3,
            "keeps_checkpoints": False,
            "suggest": lambda trial: {"dropout": trial.suggest_float("dropout", 0, 1)},
            "seeds": lambda _trial: list(seeds),
            "total": lambda: total,
        }
        made = Objective(
            Phase(**{**phase, **changes}),
            FakeTrainings(),
            FakeRuns(),
            ResourcePool([Resources((0,))]),
            threading.Event(),
        )
        return made, study.ask()

    return call


class TestComplete:
    def test_the_score_is_that_of_the_training_with_the_settings_of_the_trial(self, make):
        score, trial = make()
        assert score(trial) == (0.3,)
        (request,) = score.executor.requests
        assert request.settings == {**score.phase.settings, "dropout": trial.params["dropout"], "seed": 42}
        assert trial.user_attrs[Attribute.RUNS] == {"42": "run1"}
        assert score.runs.closed == [("run1", "complete", None)]
        assert not (request.folder / artifacts.CHECKPOINTS).exists()

    def test_a_final_keeps_its_checkpoints(self, make):
        score, trial = make(keeps_checkpoints=True)
        score(trial)
        assert (score.executor.requests[0].folder / artifacts.CHECKPOINTS).is_dir()

    def test_the_score_of_several_seeds_is_their_mean(self, make):
        score, trial = make(seeds=(1, 2), metrics=("dev/macro_f1", "model/size_mb"), reports=0)
        score.executor.outcome = {"dev/macro_f1": 0.5, "model/size_mb": 7.0}
        assert score(trial) == (0.5, 7.0)
        assert score.runs.created == ["s trial 0 seed 1", "s trial 0 seed 2"]

    def test_steps_are_fractions_of_the_training(self, make, study):
        score, trial = make(reports=6)
        score(trial)
        assert study.trials[0].intermediate_values == {2: 0.1, 4: 0.2, 6: 0.3}


class TestPruned:
    def test_the_pruner_judges_each_step_but_the_last(self, make, study):
        study.pruner = PruneAt()
        score, trial = make()
        score(trial)
        assert study.pruner.steps == [1, 2]

    def test_a_pruned_training_ends(self, make, study):
        study.pruner = PruneAt(0.15)
        score, trial = make()
        with pytest.raises(optuna.TrialPruned):
            score(trial)
        assert score.runs.closed == [("run1", "pruned", None)]

    def test_the_pruner_judges_each_seed_but_the_last(self, make, study):
        study.pruner = PruneAt()
        score, trial = make(seeds=(1, 2, 3), reports=0, prunes_by_seed=True)
        score(trial)
        assert study.pruner.steps == [1, 2]


class TestFailed:
    def test_the_cause_is_kept(self, make, study):
        score, trial = make()
        score.executor.error = TrainingFailedError("loss is not finite")
        with pytest.raises(TrainingFailedError):
            score(trial)
        assert study.trials[0].user_attrs[Attribute.CAUSE] == "loss is not finite"
        assert score.runs.closed == [("run1", "failed", "loss is not finite")]

    @pytest.mark.parametrize("outcome", [{}, {"dev/macro_f1": float("nan")}])
    def test_a_missing_score_is_a_failure(self, make, outcome):
        score, trial = make()
        score.executor.outcome = outcome
        with pytest.raises(TrainingFailedError, match="dev/macro_f1"):
            score(trial)

    def test_a_training_that_takes_too_long_is_a_failure(self, make):
        score, trial = make(max_seconds=1e-9)
        with pytest.raises(TrainingFailedError, match="trial_minutes"):
            score(trial)

    def test_a_training_that_is_killed_again_and_again_is_a_failure(self, make):
        score, trial = make(reports=0)
        score.executor.error = TrainingKilledError("killed")
        for _ in range(2):
            with pytest.raises(TrialInterruptedError, match="killed"):
                score(trial)
        with pytest.raises(TrainingFailedError, match="killed"):
            score(trial)


class TestInterrupted:
    def test_a_stop_interrupts_it(self, make):
        score, trial = make()
        score.stop.set()
        with pytest.raises(TrialInterruptedError):
            score(trial)
        assert score.executor.requests == []

    def test_a_retry_continues_the_run_with_its_settings(self, make, study):
        score, first = make(seeds=(1, 2), reports=0)
        score.executor.error = TrainingKilledError("killed")
        with pytest.raises(TrialInterruptedError):
            score(first)
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=study.trials[0].user_attrs))
        score.executor.error = None
        score(study.ask())
        folders = [request.folder.name for request in score.executor.requests]
        assert folders == ["run1", "run1", "run2"]
        assert score.executor.requests[1].settings == score.executor.requests[0].settings

    def test_a_run_that_has_its_results_is_not_repeated(self, make, study):
        score, first = make()
        score(first)
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs=study.trials[0].user_attrs))
        assert score(study.ask()) == (0.3,)
        assert len(score.executor.requests) == 1

    def test_a_run_on_another_machine_is_replaced(self, make, study):
        score, _ = make()
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, user_attrs={Attribute.RUNS: {"42": "elsewhere"}}))
        score(study.ask())
        assert score.runs.abandoned == ["elsewhere"]
        assert score.executor.requests[0].folder.name == "run1"

    def test_a_trial_that_another_worker_took_over_is_noted(self, make, study):
        score, trial = make()
        study.tell(trial.number, state=TrialState.FAIL)
        with pytest.raises(TrialInterruptedError, match="taken it over"):
            score(trial)
        assert score.lost == [0]

    def test_one_trial_too_many_is_a_duplicate(self, make, study):
        score, _ = make(total=1)
        trial = study.ask()
        with pytest.raises(TrialInterruptedError):
            score(trial)
        assert study.trials[1].user_attrs[Attribute.DUPLICATE]


class TestServerAway:
    def test_it_is_asked_again(self, make, monkeypatch):
        monkeypatch.setattr(objective, "_RETRY_SECONDS", 0)
        score, trial = make()
        score.runs.errors = [TrackingError("away")] * 2
        assert score(trial) == (0.3,)

    def test_after_too_long_the_whole_search_stops(self, make, monkeypatch):
        monkeypatch.setattr(objective, "_SERVER_SECONDS", 0)
        score, trial = make()
        score.runs.errors = [TrackingError("away")]
        with pytest.raises(TrackingError):
            score(trial)
        assert score.stop.is_set()

    def test_a_training_that_could_not_begin_is_repeated_in_its_run(self, make, monkeypatch):
        monkeypatch.setattr(objective, "_RETRY_SECONDS", 0)
        score, trial = make()
        score.executor.outages = 2
        assert score(trial) == (0.3,)
        assert [request.folder.name for request in score.executor.requests] == ["run1"] * 3
        assert score.runs.closed == [("run1", "complete", None)]

    def test_a_training_that_cannot_begin_for_too_long_fails(self, make, monkeypatch):
        monkeypatch.setattr(objective, "_SERVER_SECONDS", 0)
        score, trial = make()
        score.executor.outages = 1
        with pytest.raises(TrainingFailedError, match="http://host"):
            score(trial)

    def test_a_stop_during_the_outage_interrupts_the_trial(self, make):
        score, trial = make()
        score.executor.outages = 9
        threading.Timer(0.05, score.stop.set).start()
        with pytest.raises(TrialInterruptedError):
            score(trial)

    def test_heartbeats_go_on_while_it_does_not_answer(self, make, tmp_path, monkeypatch):
        beats = threading.Semaphore(0)
        monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
        opened = storage.open_storage(tmp_path)
        monkeypatch.setattr(type(opened), "record_heartbeat", lambda *_: beats.release())
        score, _ = make()

        def create(name, tags):
            assert all(beats.acquire(timeout=60) for _ in range(2))
            return "run1"

        monkeypatch.setattr(score.runs, "create", create)
        study = optuna.create_study(storage=opened, direction="maximize")
        study.optimize(score, n_trials=1)
        storage.close_storage(opened)
        assert study.best_value == 0.3
