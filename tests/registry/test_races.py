"""Many promoters at once, and promoters that are killed: one champion at a time, the best at the end, nothing stuck."""

import shutil
import uuid

import pytest
import racer
from registry_parts import MODEL, Commands

from registry.promotion import pipeline
from registry.store.decision_log import replay
from tests import forked
from tests.tracking.tracking_parts import Server

QUALITIES = (0.7, 0.8, 0.9, 0.99)


class Killed(BaseException):
    """In place of a signal: what runs after it in the process is what a signal would have stopped."""


@pytest.fixture
def local(tracking_uri, monkeypatch, tmp_path, tried):
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    return Commands(MlflowClient(tracking_uri), tmp_path)


@pytest.fixture
def served(_migrated_store, tmp_path, monkeypatch, tried):
    """The same on a real `mlflow server`."""
    from mlflow import MlflowClient

    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(_migrated_store, folder / "mlflow.db")
    server = Server(folder)
    server.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield Commands(MlflowClient(server.uri), tmp_path)
    server.stop()


def start(folder, kill_before, *words):
    """A racer that writes what it says to a file of its own."""
    return forked.start(folder / f"racer-{uuid.uuid4().hex}.log", racer.main, kill_before, *words)


def said(folder):
    return "\n".join(path.read_text() for path in sorted(folder.glob("racer-*.log")))


def check_consistent(desk):
    """Each champion replaced the one before it, and the aliases are what the ledger says."""
    entries = desk.entries()
    for place, entry in enumerate(entries):
        assert entry.replaced == replay(entries[:place]).champion
    state = replay(entries)
    wanted = {"champion": state.champion, "previous": state.previous, "challenger": state.challenger}
    assert desk.aliases() == {alias: version for alias, version in wanted.items() if version is not None}
    return state


@pytest.mark.slow
@pytest.mark.parametrize("place", ["local", "served"])
def test_of_many_promoters_the_best_wins(request, place, tmp_path):
    desk = request.getfixturevalue(place)
    runs = [desk.run(quality, seed=seed) for seed, quality in enumerate(QUALITIES)]
    racers = [start(tmp_path, 0, "promote", "--run_id", run_id, "--floor_macro_f1", "0.1") for run_id in runs]
    statuses = [forked.wait(process) for process in racers]

    assert statuses == [0] * len(racers), said(tmp_path)
    check_consistent(desk)
    assert desk.run_of("champion") == runs[-1]
    assert {entry.run_id for entry in desk.entries()} <= {run.info.run_id for run in desk.decisions()}
    assert len(desk.entries()) == len(runs)  # each was decided once, whichever came first


@pytest.mark.slow
def test_killed_promoters_leave_nothing_stuck(served, tmp_path):
    """Among promoters that are killed at different writes, the others go on, and the next command mends the rest."""
    runs = [served.run(quality, seed=seed) for seed, quality in enumerate(QUALITIES)]
    kills = (3, 5, 6, 0)
    racers = [
        start(tmp_path, kill, "promote", "--run_id", run_id, "--floor_macro_f1", "0.1")
        for kill, run_id in zip(kills, runs, strict=True)
    ]
    statuses = [forked.wait(process) for process in racers]

    assert statuses == [-9 if kill else 0 for kill in kills], said(tmp_path)
    assert served.history() == 0
    check_consistent(served)
    assert served.run_of("champion") == runs[-1]


def test_a_kill_before_any_write_leaves_what_the_next_command_mends(local, monkeypatch):
    """Every write of a promotion in turn: afterwards the aliases follow the ledger, and a promotion goes through."""
    from mlflow import MlflowClient

    local.run(0.75)
    local.promote()
    candidate = local.run(0.95, seed=2)
    moments = []
    for moment in range(1, 100):
        with monkeypatch.context() as patch:
            for name in racer.WRITES:
                patch.setattr(MlflowClient, name, getattr(MlflowClient, name))  # so that each is put back
            racer.count_writes(MlflowClient, lambda number, moment=moment: kill_at(number, moment))
            try:
                status = local.promote("--run_id", candidate)
            except Killed:
                moments.append(moment)
            else:
                assert status == 0
                break
        assert local.history() == 0
        check_consistent(local)
        assert local.history() == 0
        assert "mended" not in local.text

    assert len(moments) >= 4  # the version, the ledger, an entry: then the decision stands, and aliases are mended
    assert local.run_of("champion") == candidate
    assert [entry.kind for entry in local.entries()] == ["promoted", "promoted"]


def kill_at(number, moment):
    if number == moment:
        raise Killed


def overtake(monkeypatch, desk, run_id):
    """Promote a run between the next decision and its entry; returns a list that will hold that decision."""
    enter, overtaken = pipeline.Desk.enter, []

    def enter_late(self, decision):
        if not overtaken:
            overtaken.append(decision)
            assert desk.promote("--run_id", run_id) == 0
        return enter(self, decision)

    monkeypatch.setattr(pipeline.Desk, "enter", enter_late)
    return overtaken


def test_a_promoter_that_was_overtaken_judges_again(local, monkeypatch):
    """The champion changes between the comparison and the entry: the candidate is compared with the new one."""
    local.run(0.75)
    local.promote()
    good, best = local.run(0.85, seed=2), local.run(0.97, seed=3)
    overtaken = overtake(monkeypatch, local, best)
    assert local.promote("--run_id", good) == 0

    assert overtaken[0].kind == "promoted"
    assert "another decision came first" in local.text
    assert [entry.kind for entry in local.entries()] == ["promoted", "promoted", "refused"]
    assert local.run_of("champion") == best
    assert local.aliases()["challenger"] == 3
    check_consistent(local)


def test_a_rollback_that_was_overtaken_is_refused(local, monkeypatch):
    """Whoever rolls back means the champion that they saw."""
    for seed, quality in enumerate((0.75, 0.85), start=1):
        local.run(quality, seed=seed)
        local.promote()
    best = local.run(0.97, seed=3)
    overtake(monkeypatch, local, best)
    assert local.rollback() == 1

    assert "rollback must start from the champion of now" in local.text
    assert local.run_of("champion") == best
    assert MODEL in {model.name for model in local.client.search_registered_models()}
