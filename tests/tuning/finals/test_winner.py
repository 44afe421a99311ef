"""What becomes of the winner of the finals. Nothing is trained."""

import json
import threading

import pytest

from trainer.core import artifacts
from trainer.core.errors import TuningError
from tuning.execution.executor import TrainingFailedError
from tuning.execution.monitor import TrialInterruptedError
from tuning.execution.resources import Resources
from tuning.finals.statistics import FinalRun
from tuning.finals.winner import WinnerTraining, train_winner


class FakeRuns:
    def __init__(self):
        self.created, self.closed, self.named = [], [], []

    def create(self, name, tags):
        self.created.append((name, tags))
        return f"made{len(self.created)}"

    def rename(self, run_id, name):
        self.named.append((run_id, name))

    def close(self, folder, state, cause=None):
        self.closed.append((folder.name, state, cause))


class FakeTrainings:
    """An executor whose trainings end at once, with scores on test; a test may let them fail."""

    def __init__(self):
        self.requests, self.outcome, self.uses, self.error = [], {"dev/macro_f1": 0.9, "test/macro_f1": 0.8}, {}, None

    def run(self, request, resources, monitor):
        monitor.check()
        self.requests.append(request)
        if self.error:
            raise self.error
        request.folder.mkdir(parents=True, exist_ok=True)
        (request.folder / artifacts.OUTCOME).write_text(json.dumps(self.outcome))
        (request.folder / artifacts.CONFIG).write_text(json.dumps({**request.settings, **self.uses}))


FINISHED = [
    FinalRun(trial=1, seed=43, score=0.60, run_id="a"),
    FinalRun(trial=3, seed=43, score=0.68, run_id="b"),
    FinalRun(trial=1, seed=44, score=0.90, run_id="c"),
    FinalRun(trial=3, seed=44, score=0.69, run_id="d"),
]


SHARED = {"epochs": 3, "read_test": True}


@pytest.fixture
def finish(search, tmp_path):
    """Train the winner; every final has its folder with a checkpoint."""

    def call(finished=FINISHED, *, retrain=False, elsewhere=()):
        for one in finished:
            if one.run_id and one.run_id not in elsewhere:
                (tmp_path / one.run_id / artifacts.CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        training = WinnerTraining(
            settings=SHARED,
            output=tmp_path,
            resources=Resources((0, 1)),
            runs=call.runs,
            executor=call.trainings,
            stop=call.stop,
        )
        return train_winner(finished, search, training, retrain=retrain)

    call.trainings, call.runs, call.output, call.stop = FakeTrainings(), FakeRuns(), tmp_path, threading.Event()
    return call


class TestTrainWinner:
    def test_the_best_mean_wins_with_its_best_seed(self, finish):
        found = finish()
        assert (found.trial, found.seed, found.run_id) == (1, 44, "c")
        assert found.settings == {"dropout": 0.9}
        assert found.scores["test/macro_f1"] == 0.8

    def test_the_winner_alone_reads_test(self, finish):
        finish()
        (request,) = finish.trainings.requests
        assert request.folder == finish.output / "c"
        assert request.settings == {**SHARED, "dropout": 0.9, "seed": 44}
        assert finish.runs.created == []
        assert finish.runs.closed == [("c", "complete", None)]

    def test_one_that_has_read_test_already_does_not_again(self, finish):
        first = finish()
        assert finish() == first
        assert len(finish.trainings.requests) == 1

    def test_a_higher_mean_beats_a_higher_seed(self, finish):
        finished = [*FINISHED[:2], FinalRun(trial=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert (finish(finished).trial, finish(finished).seed) == (3, 44)

    def test_one_that_lacks_a_seed_comes_after_those_that_have_all(self, finish):
        finished = [*FINISHED[:2], FinalRun(trial=1, seed=44, score=None, run_id="c"), FINISHED[3]]
        assert finish(finished).trial == 3

    def test_of_equal_seeds_the_first_wins(self, finish):
        finished = [FinalRun(trial=1, seed=seed, score=0.5, run_id=f"r{seed}") for seed in (45, 43, 44)]
        assert finish(finished).seed == 43

    def test_the_checkpoints_of_all_are_removed_and_the_rest_stays(self, finish):
        finish()
        assert not list(finish.output.glob(f"*/{artifacts.CHECKPOINTS}"))
        assert sorted(path.name for path in finish.output.iterdir()) == ["a", "b", "c", "d"]

    def test_one_that_failed_without_a_run_costs_no_other_its_checkpoints(self, finish):
        (finish.output / artifacts.CHECKPOINTS).mkdir()
        finish([*FINISHED, FinalRun(trial=2, seed=43, score=None, run_id="")])
        assert (finish.output / artifacts.CHECKPOINTS).is_dir()

    def test_one_trained_on_another_machine_is_trained_here_too(self, finish):
        found = finish(elsewhere=["c"])
        assert found.run_id == "made1"
        assert finish.runs.created == [("s winner", {artifacts.TAG_STUDY: "s"})]
        assert finish.trainings.requests[0].folder == finish.output / "made1"

        assert finish(elsewhere=["c"]).run_id == "made1"  # nor anew by the next command
        assert len(finish.trainings.requests) == 1

    def test_is_trained_once_more_on_train_and_dev(self, finish):
        found = finish(retrain=True)
        first, second = finish.trainings.requests
        assert found.run_id == "made1"
        assert finish.runs.created == [("s winner on train and dev", {artifacts.TAG_STUDY: "s"})]
        assert second.settings == {**first.settings, "retrain_from": "c"}
        assert finish(retrain=True).run_id == "made1"  # of the same run, when the command is given again
        assert len(finish.trainings.requests) == 2

    def test_another_winner_has_another_training_on_train_and_dev(self, finish):
        assert finish(retrain=True).run_id == "made1"
        finished = [*FINISHED[:2], FinalRun(trial=1, seed=44, score=0.70, run_id="c"), FINISHED[3]]
        assert finish(finished, retrain=True).run_id == "made2"
        assert finish(retrain=True).run_id == "made1"

    @pytest.mark.parametrize("finished", [[FinalRun(trial=1, seed=43, score=None, run_id="a")]])
    def test_without_a_score_there_is_no_winner(self, finish, finished):
        with pytest.raises(TuningError, match="No final has a score"):
            finish(finished)

    def test_a_training_that_fails_is_an_error(self, finish):
        finish.trainings.error = TrainingFailedError("it has failed")
        with pytest.raises(TuningError, match=r"\(run c\): it has failed"):
            finish()
        assert (finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
        assert finish.runs.closed == [("c", "failed", "it has failed")]

    def test_a_training_without_scores_on_test_is_an_error(self, finish):
        finish.trainings.outcome = {"dev/macro_f1": 0.9}
        with pytest.raises(TuningError, match=r"\(run c\): it has no scores on test"):
            finish()

    def test_a_training_with_other_settings_is_an_error(self, finish):
        finish.trainings.uses = {"dropout": 0.5}
        for _ in range(2):  # nor does the next command take it
            with pytest.raises(TuningError, match=r"dropout: 0.5 then, 0.9 now"):
                finish()

    def test_a_stop_interrupts_it(self, finish):
        finish.stop.set()
        with pytest.raises(TrialInterruptedError):
            finish()
        assert finish.runs.closed == [("c", "interrupted", None)]
        assert (finish.output / "c" / artifacts.CHECKPOINTS).is_dir()
