"""The finals: what is trained again, who wins, and what becomes of the winner. Nothing is trained."""

import json
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from trainer.core import artifacts
from trainer.core.errors import TuningError
from tuning import finals
from tuning.child import Share
from tuning.finals import complete, count, fill, is_filled, open_finals, seed_of, settings_of
from tuning.queue import Queue
from tuning.ranking import FinalRun
from tuning.trial import Plan
from tuning.trials import Attribute, begun

SCORES = (0.3, 0.9, 0.5, 0.7)


@pytest.fixture
def storage():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.storages.InMemoryStorage()


@pytest.fixture
def study(storage):
    """A search whose best trials are 1, 3 and 2."""
    made = optuna.create_study(storage=storage, study_name="s", direction="maximize")
    for score in SCORES:
        trial = made.ask()
        trial.set_user_attr(Attribute.SETTINGS, {"dropout": score})
        made.tell(trial, score)
    made.tell(made.ask(), state=TrialState.PRUNED)
    return made


LEADER = {"machine": "here", "pid": 7, "started": 1.0}


def opened(storage, study, *, fills=True, top_k=3, seeds=3):
    rounds = open_finals(storage, study)
    if fills:
        fill(rounds, study, top_k, range(43, 43 + seeds), LEADER)
    return rounds


def queued(rounds):
    return [
        (one.system_attrs["fixed_params"]["setting"], one.system_attrs["fixed_params"]["seed"]) for one in rounds.trials
    ]


class TestOpenFinals:
    def test_all_settings_with_one_seed_come_first(self, storage, study):
        rounds = opened(storage, study, top_k=3, seeds=2)
        assert rounds.study_name == "s.finals"
        assert queued(rounds) == [(1, 43), (3, 43), (2, 43), (1, 44), (3, 44), (2, 44)]
        assert count(rounds) == 6

    def test_there_may_be_fewer_settings_than_asked_for(self, storage, study):
        assert len(queued(opened(storage, study, top_k=9, seeds=1))) == 4

    def test_are_queued_once_by_who_leads(self, storage, study):
        helper = opened(storage, study, fills=False)
        assert queued(helper) == []
        assert not is_filled(helper, LEADER)
        first = queued(opened(storage, study))
        assert queued(opened(storage, study)) == first
        assert queued(helper) == first
        assert is_filled(helper, LEADER)
        assert not is_filled(helper, {**LEADER, "pid": 8})  # who leads the next command has yet to do so

    def test_one_that_has_failed_is_queued_again(self, storage, study):
        rounds = opened(storage, study, top_k=2, seeds=1)
        trial = rounds.ask()
        trial.set_user_attr(Attribute.CAUSE, "its disk was full")
        rounds.tell(trial, state=TrialState.FAIL)
        assert queued(opened(storage, study, top_k=2, seeds=1)) == [(1, 43), (3, 43), (1, 43)]
        assert count(rounds) == 3

    def test_one_that_was_cut_off_is_queued_again_by_those_who_look_for_it_alone(self, storage, study):
        rounds = opened(storage, study, top_k=1, seeds=1)
        trial = rounds.ask()
        settings_of(trial, study)
        seed_of(trial)
        rounds.tell(trial, state=TrialState.FAIL)
        assert len(queued(opened(storage, study, top_k=1, seeds=1))) == 1
        assert Queue(rounds, count(rounds)).reclaim() == [0]
        assert queued(rounds)[1:] == [(1, 43)]

    def test_those_that_were_queued_by_half_are_completed(self, storage, study):
        half = opened(storage, study, fills=False, top_k=2, seeds=2)
        half.enqueue_trial({"setting": 1, "seed": 43})
        assert queued(opened(storage, study, top_k=2, seeds=2)) == [(1, 43), (3, 43), (1, 44), (3, 44)]

    def test_more_than_before_join_those_that_there_are(self, storage, study):
        opened(storage, study, top_k=1, seeds=1)
        found = queued(opened(storage, study, top_k=2, seeds=2))
        assert sorted(found) == [(1, 43), (1, 44), (3, 43), (3, 44)]

    def test_a_trial_has_the_settings_and_the_seed_it_was_queued_with(self, storage, study):
        rounds = opened(storage, study, top_k=1, seeds=2)
        trial = rounds.ask()
        assert (settings_of(trial, study), seed_of(trial)) == ({"dropout": 0.9}, 43)
        assert settings_of(trial, study) is not study.get_trials(deepcopy=False)[1].user_attrs[Attribute.SETTINGS]
        assert seed_of(rounds.ask()) == 44

    def test_as_many_are_trained_when_some_are_cut_off(self, storage, study):
        rounds = opened(storage, study, top_k=2, seeds=2)
        queue = Queue(rounds, count(rounds))
        queue.next()  # it is cut off before it has begun
        queue.give_back(0)
        trained = []
        for _ in range(9):
            again = opened(storage, study, top_k=2, seeds=2)
            queue = Queue(again, count(again))
            trial = queue.next()
            if trial is None:
                break
            trained.append((settings_of(trial, study)["dropout"], seed_of(trial)))
            again.tell(trial, 0.5)
        assert sorted(trained) == [(0.7, 43), (0.7, 44), (0.9, 43), (0.9, 44)]
        assert queue.is_finished()
        assert len(begun(again)) == count(again) == 4


def test_what_came_of_them_is_read(storage, study):
    rounds = opened(storage, study, top_k=2, seeds=1)
    for number, score in enumerate((0.6, None)):
        trial = rounds.ask()
        settings_of(trial, study)
        seed_of(trial)
        trial.set_user_attr(Attribute.RUN_ID, f"r{number}")
        if score is None:
            trial.set_user_attr(Attribute.CAUSE, "it has failed")
        rounds.tell(trial, score, state=TrialState.COMPLETE if score else TrialState.FAIL)
    assert finals.read(rounds, [44]) == []
    assert finals.read(rounds, [43, 44]) == [
        FinalRun(setting=1, seed=43, score=0.6, run_id="r0"),
        FinalRun(setting=3, seed=43, score=None, run_id="r1"),
    ]


class Runs:
    def __init__(self, output):
        self.output, self.created, self.closed = output, [], []

    def create(self, name, tags):
        self.created.append((name, tags))
        return f"made{len(self.created)}"

    def close(self, folder, status, tags):
        self.closed.append((folder.name, status))


class FakeTraining:
    """Ends at once, with scores on test; a test may let it fail."""

    orders: list[object]
    status: int | None = 0
    outcome: dict[str, float]

    def __init__(self, order, share):
        type(self).orders.append(order)
        order.folder.mkdir(parents=True, exist_ok=True)
        (order.folder / artifacts.OUTCOME).write_text(json.dumps(self.outcome))
        self.done = []
        type(self).last = self

    def ask_to_stop(self):
        self.done.append("stop")

    def wait(self, seconds=None):
        self.done.append("wait" if seconds else "end")
        if self.done == ["wait"] and self.status is None:
            raise KeyboardInterrupt

    def clean_up(self):
        self.done.append("kill")

    def cause(self):
        return "it has failed"


FINISHED = [
    FinalRun(setting=1, seed=43, score=0.60, run_id="a"),
    FinalRun(setting=3, seed=43, score=0.68, run_id="b"),
    FinalRun(setting=1, seed=44, score=0.90, run_id="c"),
    FinalRun(setting=3, seed=44, score=0.69, run_id="d"),
]


@pytest.fixture
def finish(study, tmp_path, monkeypatch):
    """Complete the finals; every one of them has its folder with a checkpoint."""
    fake = type("Training", (FakeTraining,), {"orders": [], "outcome": {"dev/macro_f1": 0.9, "test/macro_f1": 0.8}})
    monkeypatch.setattr(finals, "Training", fake)
    plan = Plan(
        words=("--epochs", "3", "--best_metric", "macro_f1", "--read_test", "false", "--output", "x"),
        output=tmp_path,
        metrics=("dev/macro_f1",),
        reports=0,
        by_seed=False,
        seconds=0.0,
        epochs=3,
        name="final",
        keeps_checkpoints=True,
        changes=lambda trial: {},
        seeds=lambda trial: [],
    )
    runs = Runs(tmp_path)

    def call(finished=FINISHED, *, retrain=False, elsewhere=()):
        for one in finished:
            if one.run_id and one.run_id not in elsewhere:
                (tmp_path / one.run_id / artifacts.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        last = finals.Finish(plan=plan, share=Share((0, 1)), runs=runs, on_beat=lambda: None)
        return complete(finished, study, last, retrain=retrain)

    call.training, call.runs, call.output, call.study = fake, runs, tmp_path, study
    return call


class TestComplete:
    def test_the_best_mean_wins_and_its_best_seed_stands_for_it(self, finish):
        winner = finish()
        assert (winner.setting, winner.seed, winner.run_id) == (1, 44, "c")
        assert winner.settings == {"dropout": 0.9}
        assert winner.scores["test/macro_f1"] == 0.8

    def test_the_winner_alone_reads_test(self, finish):
        finish()
        (order,) = finish.training.orders
        assert order.folder == finish.output / "c"
        assert order.changes == {"dropout": 0.9, "seed": 44}
        assert order.words == ("--epochs", "3", "--best_metric", "macro_f1", "--read_test", "true", "--output", "x")
        assert finish.runs.created == []
        assert finish.runs.closed == [("c", "FINISHED")]
        assert finish.training.last.done == ["wait", "kill", "end"]

    def test_one_that_has_read_test_already_does_not_again(self, finish):
        first = finish()
        assert finish() == first
        assert len(finish.training.orders) == 1

    def test_a_higher_mean_beats_a_higher_seed(self, finish):
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert (finish(finished).setting, finish(finished).seed) == (3, 44)

    def test_one_that_lacks_a_seed_comes_after_those_that_have_all(self, finish):
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=None, run_id="c"), FINISHED[3]]
        assert finish(finished).setting == 3

    def test_of_equal_seeds_the_first_stands(self, finish):
        finished = [FinalRun(setting=1, seed=seed, score=0.5, run_id=f"r{seed}") for seed in (45, 43, 44)]
        assert finish(finished).seed == 43

    def test_the_checkpoints_of_all_are_removed_and_the_rest_stays(self, finish):
        finish()
        assert not list(finish.output.glob(f"*/{artifacts.CHECKPOINTS}"))
        assert sorted(path.name for path in finish.output.iterdir()) == ["a", "b", "c", "d"]

    def test_one_that_failed_without_a_run_costs_no_other_its_checkpoints(self, finish):
        (finish.output / artifacts.CHECKPOINTS).mkdir()
        finish([*FINISHED, FinalRun(setting=2, seed=43, score=None, run_id="")])
        assert (finish.output / artifacts.CHECKPOINTS).is_dir()

    def test_one_trained_on_another_machine_is_trained_here_too(self, finish):
        winner = finish(elsewhere=["c"])
        assert winner.run_id == "made1"
        assert finish.runs.created == [("winner", {artifacts.TAG_STUDY: "s"})]
        assert finish.training.orders[0].folder == finish.output / "made1"

        assert finish(elsewhere=["c"]).run_id == "made1"  # nor anew by the next command
        assert len(finish.training.orders) == 1

    def test_is_trained_once_more_on_train_and_dev(self, finish):
        winner = finish(retrain=True)
        first, second = finish.training.orders
        assert winner.run_id == "made1"
        assert finish.runs.created == [("winner on train and dev", {artifacts.TAG_STUDY: "s"})]
        assert second.words == (*first.words, "--retrain_from", "c")
        assert second.changes == first.changes
        assert finish(retrain=True).run_id == "made1"  # of the same run, when the command is given again
        assert len(finish.training.orders) == 2

    def test_another_winner_has_another_training_on_train_and_dev(self, finish):
        assert finish(retrain=True).run_id == "made1"
        finished = [*FINISHED[:2], FinalRun(setting=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert finish(finished, retrain=True).run_id == "made2"
        assert finish(retrain=True).run_id == "made1"

    @pytest.mark.parametrize("finished", [[FinalRun(setting=1, seed=43, score=None, run_id="a")]])
    def test_without_a_score_there_is_no_winner(self, finish, finished):
        with pytest.raises(TuningError, match="finals must have a score, but got none"):
            finish(finished)

    @pytest.mark.parametrize("change", [{"status": 1}, {"outcome": {"dev/macro_f1": 0.9}}])
    def test_a_winner_that_cannot_be_trained_is_an_error(self, finish, change):
        for name, value in change.items():
            setattr(finish.training, name, value)
            finish.training.outcome = {"dev/macro_f1": 0.9}
        with pytest.raises(TuningError, match="winner's training must end well, but got run c: it has failed"):
            finish()
        assert (finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
        assert finish.runs.closed == [("c", "FAILED" if "status" in change else "FINISHED")]

    def test_a_stop_ends_it_too(self, finish):
        finish.training.status, finish.training.outcome = None, {}
        with pytest.raises(KeyboardInterrupt):
            finish()
        assert finish.training.last.done == ["wait", "stop", "wait", "kill", "end"]
        assert Path(finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
