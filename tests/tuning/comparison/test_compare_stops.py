"""A comparison that is killed, as a process, and continued; the trainings are stand-ins."""

import json
import signal

from tests.tuning.test_tune_stops import wait_for_end
from tuning.comparison.trainings import key_of
from tuning.study import storage
from tuning.study.trials import started


def test_a_killed_comparison_continues_from_its_checkpoints(comparisons, monkeypatch):
    comparisons.behave(epoch_seconds=60)
    given = {"configs": "bce,asl", "workers": 2}
    first = comparisons.start(**given)
    before = comparisons.wait_for(lambda study: len(comparisons.training(study)) == 2, "c")
    pids = [pid for trial in comparisons.training(before) for pid in comparisons.lives(trial)]
    first.send_signal(signal.SIGKILL)
    output, _ = first.communicate(timeout=180)
    assert first.returncode == -signal.SIGKILL, output
    wait_for_end(pids)

    comparisons.behave()
    monkeypatch.setattr(storage, "GRACE_SECONDS", 2)  # or it would wait a minute for the heartbeats to be stale
    monkeypatch.setattr(storage, "HEARTBEAT_SECONDS", 1)
    code, output = comparisons.run(**given)
    assert code == 0, output
    lives = {key_of(trial)[:2]: len(comparisons.lives(trial)) for trial in started(comparisons.load("c"))}
    assert lives == {("bce", 42): 2, ("asl", 42): 2, ("bce", 43): 1, ("asl", 43): 1}
    runs = comparisons.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + 4
    (parent,) = [run for run in runs if run.info.run_name == "compare c"]
    result = json.loads((comparisons.output / parent.info.run_id / "comparison.json").read_text())
    assert [pair["seeds"] for pair in result["pairs"]] == [[42, 43]]
