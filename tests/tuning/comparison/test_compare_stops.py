"""A comparison that is killed, as a process; the trainings are processes too, but stand-ins."""

import json
import signal

from tests.tuning.test_tune_stops import wait_for_end
from tuning.comparison.trainings import key_of
from tuning.study.trials import started


def test_a_killed_comparison_continues_from_its_checkpoints(comparisons):
    assert comparisons.run(configs="bce,asl", seeds=1, comparison="before")[0] == 0
    comparisons.behave(epoch_seconds=60)
    given = {"configs": "bce,asl", "seeds": 2, "workers": 2}
    first = comparisons.start(**given)
    before = comparisons.wait_for(lambda study: len(comparisons.training(study)) == 2, "c")
    pids = [pid for trial in comparisons.training(before) for pid in comparisons.lives(trial)]
    first.send_signal(signal.SIGKILL)
    output, _ = first.communicate(timeout=180)
    assert first.returncode == -signal.SIGKILL, output
    wait_for_end(pids)

    comparisons.behave()
    second = comparisons.start(grace=2, **given)  # or it would wait a minute for the heartbeats to be stale
    output, _ = second.communicate(timeout=180)
    assert second.returncode == 0, output
    trials = started(comparisons.load("c"))
    # Two were taken from finished runs, and two begun by the killed command and trained to the end in their runs.
    lives = {key_of(trial): len(comparisons.lives(trial)) for trial in trials}
    assert lives == {("bce", 42): 1, ("asl", 42): 1, ("bce", 43): 2, ("asl", 43): 2}
    runs = comparisons.runs()
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if run.info.run_name == "compare c"]
    assert len(runs) == 2 + 2 + 2
    result = json.loads((comparisons.output / parent.info.run_id / "comparison.json").read_text())
    assert [pair["seeds"] for pair in result["pairs"]] == [[42, 43]]
