"""Concurrent and killed promoters: one champion at a time, the best at the end, nothing stuck."""

import uuid

import killable_command
import pytest
from mlflow import MlflowClient
from registry_helpers import Commands

from registry.promotion.session import PromotionSession
from tests import forked
from tests.registry.store.decision_helpers import replay
from tests.tracking.tracking_helpers import Server

QUALITIES = (0.7, 0.85, 0.99)


class Killed(BaseException):
    """In place of a signal: no handler of the command runs after it."""


@pytest.fixture
def served(_migrated_store, tmp_path, monkeypatch, checked):
    """Commands on a real `mlflow server`."""
    folder = tmp_path / "server"
    folder.mkdir()
    server = Server(folder, _migrated_store)
    server.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield Commands(MlflowClient(server.uri), tmp_path)
    server.stop()


def start(folder, kill_before, *arguments):
    """A process that runs a command and writes its output to a file."""
    return forked.start(
        folder / f"killable_command-{uuid.uuid4().hex}.log", killable_command.main, kill_before, *arguments
    )


def output(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("killable_command-*.log")))


def check_consistent(commands):
    """Each champion replaced the one before it, and the aliases follow the decision log."""
    decisions = commands.decisions()
    for place, decision in enumerate(decisions):
        assert decision.replaced == replay(decisions[:place]).champion
    state = replay(decisions)
    wanted = {"champion": state.champion, "previous": state.previous, "challenger": state.challenger}
    assert commands.aliases() == {alias: version for alias, version in wanted.items() if version is not None}


@pytest.mark.slow
def test_of_concurrent_promoters_the_best_wins(served, tmp_path):
    runs = [served.run(quality, seed=seed) for seed, quality in enumerate(QUALITIES)]
    processes = [start(tmp_path, 0, "promote", "--run_id", run_id, "--floor_macro_f1", "0.1") for run_id in runs]
    statuses = [forked.wait(process) for process in processes]

    assert statuses == [0] * len(processes), output(tmp_path)
    check_consistent(served)
    assert served.run_of("champion") == runs[-1]
    assert {one.run_id for one in served.decisions()} <= {run.info.run_id for run in served.decision_runs()}
    assert len(served.decisions()) == len(runs)  # each was decided once, whichever came first
    assert "external" not in {one.kind for one in served.decisions()}


def test_killed_promoters_leave_nothing_stuck(empty, tmp_path):
    """A promoter that is killed after its decision leaves aliases that the next command completes."""
    runs = [empty.run(quality, seed=seed) for seed, quality in enumerate(QUALITIES)]
    kills = (3, 5, 0)
    for kill, run_id in zip(kills, runs, strict=True):
        process = start(tmp_path, kill, "promote", "--run_id", run_id, "--floor_macro_f1", "0.1")
        assert forked.wait(process) == (-9 if kill else 0), output(tmp_path)

    check_consistent(empty)
    assert empty.run_of("champion") == runs[-1]
    assert "external" not in {one.kind for one in empty.decisions()}


def test_a_kill_before_any_write_is_completed_by_the_next_command(champions, monkeypatch):
    """Every write of a promotion in turn, until a promotion goes through."""
    candidate = champions.run(0.998, seed=5)
    for moment in range(1, 30):
        with monkeypatch.context() as patch:
            for name in killable_command.WRITES:
                patch.setattr(MlflowClient, name, getattr(MlflowClient, name))  # so that each is put back
            killable_command.count_writes(MlflowClient, lambda number, moment=moment: kill_at(number, moment))
            try:
                status = champions.promote("--run_id", candidate)
            except Killed:
                continue
        assert status == 0
        break

    assert moment > 4  # the version, the log, the decision, then at least an alias
    check_consistent(champions)
    assert champions.run_of("champion") == candidate
    assert [one.kind for one in champions.decisions()] == ["promoted"] * 4


def kill_at(number, moment):
    if number == moment:
        raise Killed


def overtake(monkeypatch, commands, run_id):
    """Promote a run between the next proposal and its commit; returns a list that gets that proposal."""
    commit, overtaken = PromotionSession.commit, []

    def commit_late(self, proposal):
        if not overtaken:
            overtaken.append(proposal)
            assert commands.promote("--run_id", run_id) == 0
        return commit(self, proposal)

    monkeypatch.setattr(PromotionSession, "commit", commit_late)
    return overtaken


def test_an_overtaken_promoter_compares_again(empty, monkeypatch):
    """The champion changes between the comparison and the commit: the candidate is compared with the new one."""
    empty.run(0.75)
    empty.promote()
    good, best = empty.run(0.85, seed=2), empty.run(0.97, seed=3)
    overtaken = overtake(monkeypatch, empty, best)
    assert empty.promote("--run_id", good) == 0

    assert overtaken[0].kind == "promoted"
    assert [one.kind for one in empty.decisions()] == ["promoted", "promoted", "refused"]
    assert empty.run_of("champion") == best
    assert empty.aliases()["challenger"] == 3
    check_consistent(empty)


def test_an_overtaken_rollback_is_refused(champions, monkeypatch):
    """A rollback is meant for the champion that its user saw."""
    best = champions.run(0.998, seed=5)
    overtake(monkeypatch, champions, best)
    assert champions.rollback() == 1
    assert champions.run_of("champion") == best
