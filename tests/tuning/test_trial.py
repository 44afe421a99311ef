"""A trial from its first seed to what Optuna is told; its trainings do what the test says."""

import dataclasses
import json
from typing import ClassVar

import optuna
import pytest
from optuna.trial import TrialState

from trainer.core import artifacts
from tuning.execution import objective, training
from tuning.execution.objective import Plan, RunningTrial
from tuning.execution.process import Share
from tuning.study.trials import Attribute

SHARE = Share((0,))


class FakeTraining:
    """Stands for `Training`; a test says what it does next."""

    made: ClassVar[list] = []

    def __init__(self, order, share):
        self.order, self.share = order, share
        self.seconds = 0.0
        self.status = None
        self.new = []
        self.asked = []
        FakeTraining.made.append(self)

    def scores(self, name):
        found, self.new = self.new, []
        return found

    def ask_to_stop(self):
        self.asked.append("stop")

    def clean_up(self):
        self.asked.append("kill")

    def cause(self):
        return "it has failed"

    def end(self, status=0, **scores):
        self.status = status
        if status == 0:
            found = {f"dev/{name}" if name == "macro_f1" else f"model/{name}": value for name, value in scores.items()}
            (self.order.folder / artifacts.OUTCOME).write_text(json.dumps(found))
            (self.order.folder / artifacts.CONFIG).write_text(json.dumps(self.order.changes))


class FakeRuns:
    def __init__(self):
        self.created, self.closed, self.given_up = [], [], []

    def give_up(self, run_id):
        self.given_up.append(run_id)

    def create(self, name, tags):
        self.created.append((name, dict(tags)))
        return f"run{len(self.created)}"

    def close(self, folder, status, tags):
        self.closed.append((folder.name, status, tags[artifacts.TAG_TRIAL_STATE], tags[artifacts.TAG_ERROR]))


class Pruner(optuna.pruners.BasePruner):
    """Gives up any trial that was told of a score below `least`; remembers when it was asked."""

    def __init__(self, least=0.0):
        self.least, self.asked = least, []

    def prune(self, study, trial):
        self.asked.append(trial.last_step)
        return trial.intermediate_values[trial.last_step] < self.least


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """A running trial whose trainings do what the test says."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setattr(objective, "Training", FakeTraining)
    monkeypatch.setattr(FakeTraining, "made", [])

    def call(*, seeds=(42,), pruner=None, changes=None, study=None, **plan):
        made = study or optuna.create_study(study_name="s", direction="maximize", pruner=pruner or Pruner())
        usual = Plan(
            words=(),
            output=tmp_path,
            metrics=("dev/macro_f1",),
            reports=9,
            by_seed=False,
            seconds=0.0,
            epochs=3,
            name="trial",
            keeps_checkpoints=False,
            changes=lambda one: changes or {},
            seeds=lambda one: seeds,
        )
        return RunningTrial(dataclasses.replace(usual, **plan), made.ask(), SHARE, FakeRuns())

    return call


def steps(running):
    return dict(running.trial.storage.get_trial(running.trial._trial_id).intermediate_values)


class TestRunningTrial:
    def test_has_the_score_of_its_training(self, begin):
        running = begin(changes={"dropout": 0.1})
        assert not running.poll()
        (only,) = FakeTraining.made
        assert only.order.changes == {"dropout": 0.1, "seed": 42}
        assert running.trial.user_attrs[Attribute.SETTINGS] == {"dropout": 0.1}
        assert running.trial.user_attrs[Attribute.RUNS] == {"42": "run1"}
        assert running.runs.created == [("trial 0", {artifacts.TAG_STUDY: "s", artifacts.TAG_TRIAL: 0})]
        (only.order.folder / artifacts.CHECKPOINTS).mkdir()
        only.seconds = 12.0
        only.end(macro_f1=0.5)
        assert not running.poll()
        assert running.poll()
        assert (running.state, running.values, running.seconds) == ("complete", [0.5], 12.0)
        assert running.runs.closed == [("run1", "FINISHED", "complete", None)]
        assert not (only.order.folder / artifacts.CHECKPOINTS).exists()
        assert running.poll()

    def test_a_final_keeps_its_checkpoints(self, begin):
        running = begin(keeps_checkpoints=True)
        running.poll()
        only = FakeTraining.made[0]
        (only.order.folder / artifacts.CHECKPOINTS).mkdir()
        only.end(macro_f1=0.5)
        running.poll()
        assert (only.order.folder / artifacts.CHECKPOINTS).exists()

    def test_several_seeds_have_a_mean(self, begin):
        running = begin(seeds=(7, 8, 9), reports=0)
        for score in (0.2, 0.4, 0.9):
            running.poll()
            FakeTraining.made[-1].seconds = 10.0
            FakeTraining.made[-1].end(macro_f1=score)
            running.poll()
        assert running.poll()
        assert running.values == [pytest.approx(0.5)]
        assert running.seconds == 30.0
        assert [one.order.changes["seed"] for one in FakeTraining.made] == [7, 8, 9]
        assert [name for name, _ in running.runs.created] == ["trial 0 seed 7", "trial 0 seed 8", "trial 0 seed 9"]
        assert running.trial.user_attrs[Attribute.RUNS] == {"7": "run1", "8": "run2", "9": "run3"}
        assert steps(running) == {}

    @pytest.mark.parametrize(("scores", "state"), [((0.9, 0.1), "pruned"), ((0.9, 0.8, 0.1), "complete")])
    def test_over_seeds_each_is_told_and_judged_but_for_the_last(self, begin, scores, state):
        pruner = Pruner(least=0.5)
        running = begin(seeds=(7, 8, 9), reports=0, by_seed=True, pruner=pruner)
        for score in scores:
            running.poll()
            FakeTraining.made[-1].end(macro_f1=score)
            running.poll()
        assert running.poll()
        assert running.state == state
        assert steps(running) == dict(enumerate(scores, start=1))
        assert pruner.asked == [1, 2]
        assert {closed[1:3] for closed in running.runs.closed} == {("FINISHED", "complete")}

    def test_two_goals_have_two_values(self, begin):
        study = optuna.create_study(study_name="s", directions=["maximize", "minimize"])
        running = begin(seeds=(1, 2), reports=0, metrics=("dev/macro_f1", "model/size_mb"), study=study)
        for score, size in ((0.4, 10.0), (0.6, 20.0)):
            running.poll()
            FakeTraining.made[-1].end(macro_f1=score, size_mb=size)
            running.poll()
        assert running.poll()
        assert running.values == [pytest.approx(0.5), 15.0]
        study.tell(running.trial, running.values)

    @pytest.mark.parametrize("scores", [{}, {"macro_f1": float("nan")}, {"macro_f1": float("inf")}])
    def test_without_a_number_it_has_failed(self, begin, scores):
        running = begin()
        running.poll()
        FakeTraining.made[0].end(**scores)
        assert running.poll()
        assert (running.state, running.cause) == ("failed", "it has no number for dev/macro_f1")
        assert running.runs.closed == [("run1", "FAILED", "failed", "it has no number for dev/macro_f1")]

    @pytest.mark.parametrize(
        ("status", "state", "cause"),
        [
            (1, "failed", "it has failed"),
            (-9, "interrupted", "its process was ended from outside (status -9)"),
            (-15, "interrupted", "its process was ended from outside (status -15)"),
            (143, "interrupted", "its process was ended from outside (status 143)"),
            (255, "interrupted", "its process was ended from outside (status 255)"),
        ],
    )
    def test_ends_as_its_training_does(self, begin, status, state, cause):
        running = begin()
        running.poll()
        only = FakeTraining.made[0]
        (only.order.folder / artifacts.CHECKPOINTS).mkdir()
        only.end(status)
        assert running.poll()
        assert (running.state, running.cause) == (state, cause)
        run_status = "FAILED" if state == "failed" else "KILLED"
        assert running.runs.closed == [("run1", run_status, state, cause if state == "failed" else None)]
        assert (only.order.folder / artifacts.CHECKPOINTS).exists() == (state == "interrupted")

    def test_one_that_is_ended_from_outside_once_too_often_has_failed(self, begin):
        study = optuna.create_study(study_name="s", direction="maximize", pruner=Pruner())
        study.enqueue_trial({}, user_attrs={Attribute.KILLS: 2})
        running = begin(study=study)
        running.poll()
        only = FakeTraining.made[0]
        (only.order.folder / artifacts.CHECKPOINTS).mkdir()
        only.end(-9)
        assert running.poll()
        cause = "its process was ended from outside (status -9)"
        assert (running.state, running.cause) == ("failed", cause)
        assert running.runs.closed == [("run1", "FAILED", "failed", cause)]
        assert not (only.order.folder / artifacts.CHECKPOINTS).exists()

    @pytest.mark.parametrize("is_resumed", [False, True])
    def test_one_that_used_other_settings_than_it_was_given_has_failed(self, begin, is_resumed):
        running = begin(changes={"dropout": 0.1})
        running.poll()
        only = FakeTraining.made[0]
        only.end(macro_f1=0.5)
        (only.order.folder / artifacts.CONFIG).write_text('{"dropout": 0.2, "seed": 42}')
        if is_resumed:  # its driver was killed before it looked
            runs = running.trial.user_attrs[Attribute.RUNS]
            running.trial.study.enqueue_trial({}, user_attrs={Attribute.RUNS: runs})
            running = begin(changes={"dropout": 0.1}, study=running.trial.study)
        assert running.poll()
        assert running.state == "failed"
        assert running.cause == "training must use what it is given, but got dropout: 0.1 given, 0.2 used"
        assert running.runs.closed[0][1:3] == ("FAILED", "failed")


class TestProgress:
    @pytest.mark.parametrize(
        ("epochs", "every", "reports", "told"),
        [
            (3, 1.0, 9, [3, 6, 9]),
            (9, 1.0, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (4, 0.5, 9, [1, 2, 3, 5, 6, 7, 8, 9]),
            (2, 0.25, 9, [1, 2, 3, 5, 6, 7, 8, 9]),
            (18, 1.0, 9, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (1, 1.0, 2, [2]),
            (100, 1.0, 2, [1, 2]),
        ],
    )
    def test_is_told_in_parts_of_the_training(self, begin, epochs, every, reports, told):
        running = begin(changes={"epochs": epochs}, reports=reports)
        running.poll()
        only = FakeTraining.made[0]
        for number in range(1, round(epochs / every) + 1):
            only.new = [(number * every, number / 1000)]
            running.poll()
        assert sorted(steps(running)) == told

    def test_goes_by_the_epochs_of_all_trials_where_none_are_suggested(self, begin):
        running = begin(epochs=4)
        running.poll()
        FakeTraining.made[0].new = [(1.0, 0.1), (2.0, 0.2), (4.0, 0.3)]
        running.poll()
        assert steps(running) == {2: 0.1, 5: 0.2, 9: 0.3}

    def test_is_told_nothing_where_nothing_prunes(self, begin):
        running = begin(reports=0)
        running.poll()
        FakeTraining.made[0].new = [(1.0, 0.1)]
        assert not running.poll()
        assert steps(running) == {}

    def test_a_bad_one_is_stopped_and_its_run_closed(self, begin):
        pruner = Pruner(least=0.5)
        running = begin(pruner=pruner)
        running.poll()
        only = FakeTraining.made[0]
        only.new = [(1.0, 0.1)]
        assert not running.poll()
        assert only.asked == ["stop"]
        only.new = [(2.0, 0.1)]
        assert not running.poll()
        assert only.asked == ["stop"]  # it is asked once
        assert steps(running) == {3: 0.1}
        only.end(143)
        assert running.poll()
        assert (running.state, running.cause) == ("pruned", "")
        assert running.runs.closed == [("run1", "KILLED", "pruned", None)]
        assert pruner.asked == [3]

    def test_is_judged_once_for_each_report_and_not_at_the_last(self, begin):
        pruner = Pruner(least=0.5)
        running = begin(pruner=pruner)
        running.poll()
        only = FakeTraining.made[0]
        for epoch, score in ((1, 0.6), (2, 0.6), (3, 0.0)):
            only.new = [(float(epoch), score)]
            for _ in range(3):
                assert not running.poll()
        assert pruner.asked == [3, 6]
        assert only.asked == []

    def test_one_that_has_ended_by_itself_is_not_stopped(self, begin):
        running = begin(pruner=Pruner(least=0.5))
        running.poll()
        only = FakeTraining.made[0]
        only.new = [(1.0, 0.1)]
        only.end(macro_f1=0.1)
        running.poll()
        assert running.poll()
        assert running.state == "complete"

    def test_one_that_ends_well_in_spite_of_being_asked_to_stop_has_its_score(self, begin):
        running = begin(pruner=Pruner(least=0.5))
        running.poll()
        only = FakeTraining.made[0]
        only.new = [(1.0, 0.1)]
        running.poll()
        assert only.asked == ["stop"]
        only.end(macro_f1=0.7)
        running.poll()
        assert running.poll()
        assert (running.state, running.values) == ("complete", [0.7])


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(objective, "time", made)
    return made


class TestDeadline:
    def test_ends_a_training_that_takes_too_long(self, begin, clock):
        running = begin(seconds=60.0)
        running.poll()
        only = FakeTraining.made[0]
        only.seconds = 60.0
        assert not running.poll()
        assert only.asked == []
        only.seconds = 60.1
        assert not running.poll()
        assert only.asked == ["stop"]
        only.end(143)
        assert running.poll()
        assert (running.state, running.cause) == ("failed", "it took longer than trial_minutes=1")
        assert running.runs.closed[0][1:] == ("FAILED", "failed", "it took longer than trial_minutes=1")

    def test_one_that_does_not_listen_is_killed_when_patience_ends(self, begin, clock):
        running = begin(seconds=60.0)
        running.poll()
        only = FakeTraining.made[0]
        only.seconds = 61.0
        for clock.now in (0.0, 10.0, objective.STOP_SECONDS):
            assert not running.poll()
        assert only.asked == ["stop"]
        clock.now += 0.1
        assert not running.poll()
        assert only.asked == ["stop", "kill"]
        only.end(-9)
        assert running.poll()
        assert (running.state, running.cause) == ("failed", "it took longer than trial_minutes=1")


class TestInterruption:
    def test_one_that_runs_is_asked_to_end_and_can_go_on(self, begin):
        running = begin()
        running.poll()
        only = FakeTraining.made[0]
        (only.order.folder / artifacts.CHECKPOINTS).mkdir()
        only.seconds = 5.0
        running.interrupt()
        running.interrupt()
        assert not running.poll()
        assert only.asked == ["stop"]
        only.end(143)
        assert running.poll()
        assert (running.state, running.cause, running.seconds) == ("interrupted", "the search was stopped", 5.0)
        assert running.runs.closed == [("run1", "KILLED", "interrupted", None)]
        assert (only.order.folder / artifacts.CHECKPOINTS).exists()

    def test_one_that_has_not_begun_just_ends(self, begin):
        running = begin()
        running.interrupt()
        assert running.poll()
        assert running.state == "interrupted"
        assert FakeTraining.made == []
        assert running.runs.closed == []

    def test_one_that_has_ended_stays_as_it_is(self, begin):
        running = begin()
        running.poll()
        FakeTraining.made[0].end(1)
        running.poll()
        running.interrupt()
        assert running.state == "failed"

    def test_one_that_is_being_pruned_stays_pruned(self, begin):
        running = begin(pruner=Pruner(least=0.5))
        running.poll()
        FakeTraining.made[0].new = [(1.0, 0.1)]
        running.poll()
        running.interrupt()
        FakeTraining.made[0].end(143)
        assert running.poll()
        assert running.state == "pruned"

    @pytest.mark.parametrize("by_seed", [False, True])
    def test_one_that_ends_well_all_the_same_leaves_its_other_seeds_to_be_done(self, begin, by_seed):
        running = begin(seeds=(1, 2), reports=0, by_seed=by_seed)
        running.poll()
        running.interrupt()
        FakeTraining.made[0].end(macro_f1=0.5)
        assert running.poll()
        assert (running.state, running.cause) == ("interrupted", "the search was stopped")
        assert running.runs.closed == [("run1", "FINISHED", "complete", None)]
        assert len(FakeTraining.made) == 1

    def test_a_deadline_of_one_seed_is_none_of_the_next(self, begin, clock):
        running = begin(seeds=(1, 2), reports=0, seconds=60.0)
        running.poll()
        FakeTraining.made[0].seconds = 61.0
        running.poll()
        assert FakeTraining.made[0].asked == ["stop"]
        FakeTraining.made[0].end(macro_f1=0.5)
        running.poll()
        running.poll()
        clock.now = 1000.0
        assert not running.poll()
        assert FakeTraining.made[1].asked == []
        FakeTraining.made[1].end(1)
        assert running.poll()
        assert (running.state, running.cause) == ("failed", "it has failed")

    def again(self, begin, runs, seconds, **plan):
        study = optuna.create_study(study_name="s", direction="maximize", pruner=Pruner())
        study.enqueue_trial({}, user_attrs={Attribute.RUNS: runs, Attribute.SECONDS: seconds})
        return begin(study=study, **plan)

    def test_goes_on_in_the_run_it_had(self, begin, tmp_path):
        (tmp_path / "earlier").mkdir()
        running = self.again(begin, {"42": "earlier"}, 100.0)
        running.poll()
        assert FakeTraining.made[0].order.folder == tmp_path / "earlier"
        assert running.runs.created == []
        FakeTraining.made[0].seconds = 20.0
        assert running.seconds == 120.0

    def test_begins_anew_what_was_begun_on_another_machine(self, begin, tmp_path):
        running = self.again(begin, {"42": "elsewhere"}, 100.0)
        running.poll()
        assert FakeTraining.made[0].order.folder == tmp_path / "run1"
        assert running.trial.user_attrs[Attribute.RUNS] == {"42": "run1"}
        assert running.runs.given_up == ["elsewhere"]

    def test_goes_on_with_the_settings_it_had(self, begin):
        study = optuna.create_study(study_name="s", direction="maximize", pruner=Pruner())
        study.enqueue_trial({}, user_attrs={Attribute.SETTINGS: {"evals_per_epoch": 1}})
        begin(study=study, changes={"evals_per_epoch": 2}).poll()  # of another pruner
        assert FakeTraining.made[0].order.changes["evals_per_epoch"] == 1

    def test_one_whose_training_was_about_to_start_leaves_no_run(self, begin, monkeypatch):
        def stopped(order, share):
            raise KeyboardInterrupt

        monkeypatch.setattr(objective, "Training", stopped)
        running = begin()
        with pytest.raises(KeyboardInterrupt):
            running.poll()
        running.interrupt()
        assert running.state == "interrupted"
        assert running.runs.given_up == ["run1"]

    def test_makes_no_second_run_when_the_storage_goes_away_in_between(self, begin, monkeypatch):
        running = begin()
        set_user_attr = running.trial.set_user_attr

        def away(key, value):
            if key == Attribute.RUNS:
                raise optuna.exceptions.StorageInternalError
            set_user_attr(key, value)

        monkeypatch.setattr(running.trial, "set_user_attr", away)
        for _ in range(3):
            with pytest.raises(optuna.exceptions.StorageInternalError):
                running.poll()
        monkeypatch.setattr(running.trial, "set_user_attr", set_user_attr)
        running.poll()
        assert len(running.runs.created) == 1
        assert len(FakeTraining.made) == 1

    def test_waits_until_its_training_of_before_has_let_its_folder_go(self, begin, tmp_path, monkeypatch):
        (tmp_path / "earlier").mkdir()
        running = self.again(begin, {"42": "earlier"}, 0.0)
        monkeypatch.setattr(training, "is_locked", lambda folder: folder == tmp_path / "earlier")
        for _ in range(3):
            assert not running.poll()
        assert FakeTraining.made == []
        monkeypatch.setattr(training, "is_locked", lambda _: False)
        running.poll()
        assert len(FakeTraining.made) == 1

    def test_one_that_another_driver_has_taken_over_is_stopped(self, begin):
        running = begin()
        running.poll()
        running.trial.study.tell(running.trial.number, state=TrialState.FAIL)
        FakeTraining.made[0].new = [(1.0, 0.1)]
        assert not running.poll()
        FakeTraining.made[0].end(143)
        assert running.poll()
        assert running.state == "interrupted"

    def test_does_not_repeat_a_seed_that_has_its_score(self, begin, tmp_path):
        (tmp_path / "earlier").mkdir()
        (tmp_path / "earlier" / artifacts.OUTCOME).write_text('{"dev/macro_f1": 0.2}')
        (tmp_path / "earlier" / artifacts.CONFIG).write_text('{"seed": 1}')
        running = self.again(begin, {"1": "earlier"}, 100.0, seeds=(1, 2), reports=0, by_seed=True)
        running.poll()
        running.poll()
        (only,) = FakeTraining.made
        assert only.order.changes["seed"] == 2
        only.end(macro_f1=0.4)
        running.poll()
        assert running.poll()
        assert running.values == [pytest.approx(0.3)]
        assert steps(running) == {1: 0.2, 2: 0.4}
