"""A job that was stopped continues after its complete chunks, and its output equals that of a job that was not."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch_jobs import FakeModel

from registry import predict
from registry.scoring import scorer
from registry.scoring.chunk_store import ChunkStore
from trainer.reporting import console

LINES = [f"text {i}" if i % 7 else "" for i in range(20)]
TEXTS = [line for line in LINES if line]

_SLOW_JOB = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
sys.path[:0] = [{tests!r}, {root!r}]
import pytest
from pathlib import Path
from batch_jobs import FakeModel, Job

class Slow(FakeModel):
    def probabilities(self, texts):
        time.sleep(0.2 if texts else 0)
        return super().probabilities(texts)

class Silent:
    def readouterr(self):
        raise SystemExit
with pytest.MonkeyPatch.context() as patch:
    job = Job(Path({folder!r}), patch, Silent())
    job.model = Slow()
    print("ready", flush=True)
    job.run("in.txt", chunk_rows=3)
"""


@pytest.fixture
def stopped(job):
    """A job that was stopped after two of its chunks."""
    job.write("in.txt", "\n".join(LINES))
    job.model = FakeModel(most_calls=2)
    assert job.run("in.txt", chunk_rows=3)[0] == 130
    assert ".out.jsonl.parts" in job.files()
    assert "out.jsonl" not in job.files()
    job.model = FakeModel()
    return job


def output(job, target="out.jsonl"):
    return (job.folder / target).read_bytes(), (job.folder / f"{target}.rejects.jsonl").read_bytes()


@pytest.fixture
def whole(job):
    """Output and rejects of the same job in one go."""
    job.write("in.txt", "\n".join(LINES))
    job.run("in.txt", "whole.jsonl", chunk_rows=3)
    return output(job, "whole.jsonl")


@pytest.mark.parametrize("name", ["job.json", "000000.json"])
def test_a_damaged_file_of_the_folder_is_named(stopped, name):
    stopped.write(f".out.jsonl.parts/{name}", "{" * 5000)

    status, said = stopped.run("in.txt", chunk_rows=3)

    assert status == 1
    assert name in "".join(said.split())
    assert "Traceback" not in said


def test_finished_chunks_are_not_scored_again(whole, stopped):
    status, said = stopped.run("in.txt", chunk_rows=3)
    assert status == 3
    assert "Continuing after the 6 rows" in said
    assert stopped.model.scored == TEXTS[5:]
    assert output(stopped) == whole
    assert ".out.jsonl.parts" not in stopped.files()


@pytest.mark.parametrize("target", ["out.csv", "out.parquet"])
def test_every_form_is_the_same_as_in_one_go(job, target):
    job.write("in.txt", "\n".join(LINES))
    job.model = FakeModel(most_calls=3)
    assert job.run("in.txt", target, chunk_rows=3)[0] == 130
    job.model = FakeModel()
    assert job.run("in.txt", target, chunk_rows=3)[0] == 3
    resumed = output(job, target)
    assert job.run("in.txt", target, chunk_rows=3, overwrite="true")[0] == 3
    assert output(job, target) == resumed


def grow(job):
    job.write("in.txt", "\n".join([*LINES, "one more"]))


def touch(job):
    job.write("in.txt", "\n".join(["Text 1", *LINES[1:]]))


def move_alias(job):
    job.source = "models:/emotions/2"


@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (grow, {}, "size of the input"),
        (touch, {}, "time of the input"),
        (move_alias, {}, "unfinished job: model."),
        (None, {"threshold": 0.3}, "unfinished job: threshold."),
        (None, {"chunk_rows": 4}, "unfinished job: chunk_rows."),
    ],
)
def test_a_job_with_other_facts_starts_over(stopped, change, settings, named):
    if change:
        change(stopped)
    status, said = stopped.run("in.txt", **{"chunk_rows": 3, **settings})
    assert status == 3
    assert "Starting over" in said
    assert named in said
    assert len(stopped.model.scored) == len(stopped.rows())
    assert len(stopped.rows()) + len(stopped.rejects()) >= len(LINES)


def test_a_chunk_without_its_counts_is_not_finished(whole, stopped):
    (stopped.folder / ".out.jsonl.parts" / "000001.json").unlink()
    assert stopped.run("in.txt", chunk_rows=3)[0] == 3
    assert stopped.model.scored == TEXTS[2:]
    assert output(stopped) == whole


def test_an_input_that_changes_meanwhile_is_noticed(job, monkeypatch):
    job.write("in.txt", "one\ntwo")
    monkeypatch.setattr(FakeModel, "probabilities", _changing(job, FakeModel.probabilities))
    status, said = job.run("in.txt")
    assert status == 1
    assert "changed while it was scored" in said
    assert "out.jsonl" not in job.files()


def test_an_input_that_goes_away_is_noticed(job, monkeypatch):
    path = job.write("in.txt", "one\ntwo")
    plain = scorer.Scorer.score
    monkeypatch.setattr(scorer.Scorer, "score", lambda *given: (path.unlink(), plain(*given))[1])
    status, said = job.run("in.txt")
    assert status == 1
    assert "Cannot read `input`" in said


def _changing(job, probabilities):
    def changed(self, texts):
        if texts:
            job.write("in.txt", "three\nfour\nfive")
        return probabilities(self, texts)

    return changed


def start(job):
    tests, root = str(Path(__file__).parent), str(Path(__file__).parents[2])
    code = _SLOW_JOB.format(tests=tests, root=root, folder=str(job.folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    finished = job.folder / ".out.jsonl.parts" / "000001.json"
    deadline = time.monotonic() + 60
    while not finished.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def test_a_killed_process_leaves_no_partial_output_and_continues(job, whole):
    process = start(job)
    process.kill()
    process.communicate(timeout=60)
    assert job.files() == [".out.jsonl.parts", "in.txt", "whole.jsonl", "whole.jsonl.rejects.jsonl"]
    job.model = FakeModel()
    status, said = job.run("in.txt", chunk_rows=3)
    assert status == 3
    assert "Continuing after the" in said
    assert 0 < len(job.model.scored) < len(TEXTS) - 4
    assert output(job) == whole


def test_a_job_that_was_killed_while_its_chunks_were_joined_writes_each_row_once(whole, stopped):
    (stopped.folder / ".out.jsonl.parts" / "joined.jsonl").write_text("the beginning")
    assert stopped.run("in.txt", chunk_rows=3)[0] == 3
    assert output(stopped) == whole


class Killed(BaseException):
    """Ends a job without a further write of it."""


@pytest.mark.parametrize("writes", range(1, 26))
def test_a_job_that_is_killed_before_any_write_of_its_end_is_finished_by_the_same_command(whole, stopped, writes):
    """`writes`: files that the end of the job renames or removes, before the kill; 25 are more than there are."""
    done = []

    def counted(real):
        def call(*given, **more):
            if len(done) == writes:
                raise Killed
            done.append(given)
            return real(*given, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        publish = ChunkStore.publish

        def publish_and_die(store, join):
            for owner, name in ((Path, "unlink"), (Path, "replace"), (Path, "write_bytes"), (shutil, "rmtree")):
                patch.setattr(owner, name, counted(getattr(owner, name)))
            publish(store, join)

        patch.setattr(ChunkStore, "publish", publish_and_die)
        patch.setattr(ChunkStore, "__exit__", lambda store, *_: store._lock.close())
        with contextlib.suppress(Killed):
            stopped.run("in.txt", chunk_rows=3)
    assert len(done) <= writes
    stopped.model = FakeModel()
    if (stopped.folder / ".out.jsonl.parts").exists():
        status, said = stopped.run("in.txt", chunk_rows=3)
        assert (status, "which exists" in said) == (3, False), said
        assert stopped.model.scored == []
    assert output(stopped) == whole
    assert ".out.jsonl.parts" not in stopped.files()


def test_another_job_does_not_replace_an_output_whose_job_was_killed_at_its_end(whole, stopped, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_: None)
        assert stopped.run("in.txt", chunk_rows=3)[0] == 3
    status, said = stopped.run("in.txt", chunk_rows=3, threshold=0.3)
    assert status == 1
    assert "which exists" in said
    assert output(stopped) == whole
    assert stopped.run("in.txt", chunk_rows=3, threshold=0.3, overwrite="true")[0] == 3


def test_two_jobs_do_not_write_one_output(stopped):
    lock = stopped.folder / ".out.jsonl.parts" / "lock"
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(lock)], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        status, said = stopped.run("in.txt", chunk_rows=3)
        other.communicate(b"\n")
    assert status == 1
    assert "Another job is writing `output`" in said
    assert stopped.model.scored == []


def test_sigterm_is_the_exit_status_of_a_terminated_process(job, monkeypatch):
    job.write("in.txt", "one")
    monkeypatch.setattr(FakeModel, "probabilities", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert job.run("in.txt")[0] == 128 + signal.SIGTERM


def test_progress_goes_to_the_end(job):
    seen = []

    class Bar(console.Progress):
        def update(self, step, numbers):
            seen.append(step)

    class Screen(console.Console):
        def progress(self, total, start=0, unit="step"):
            seen.append((total, start, unit))
            return Bar()

    job.write("in.txt", "\n".join(f"{i} {'word ' * 500}" for i in range(10)))
    made = console.make()
    config = predict.PredictConfig(input=str(job.folder / "in.txt"), output=str(job.folder / "o.csv"), chunk_rows=4)
    assert predict.predict(config, Screen(made._out, made._err)) == 0
    assert seen[0] == (25, 0, "KiB")
    assert seen[1:] == sorted(seen[1:])
    assert seen[-1] == 25
