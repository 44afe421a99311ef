"""A kill before any write to the run folder: what is left resumes to the end, with the files of an uninterrupted run.

One training copies its folder before each write that Python makes there; each distinct copy is the state that a kill
at this moment leaves.
"""

import hashlib
import os
import re
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from train_helpers import Recorder, repeatable, reset_accelerate

from tests import forked
from trainer import pipeline
from trainer.core import artifacts
from trainer.core.input_files import read_json
from trainer.core.settings import as_argv
from trainer.runs import results
from trainer.train import main

_WRITES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
_RUN = "run"
_WITH_OUTPUT_FOLDER = {artifacts.CONFIG, artifacts.MODEL_CARD, artifacts.MODEL_CARD_PAGE}


STUBBED = {
    pipeline: ("open_run", "measure_cost", "write_report"),
    pipeline.packaging: ("save_model",),
    results: ("write_figures",),
}


def stub_what_writes_elsewhere():
    """Leave out the server, the figures and MLflow's own files; the run folder is written as ever."""

    @contextmanager
    def open_run(output, prepare, **_):
        folder = output / _RUN
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        yield Recorder(folder)

    def save_model(target, *_, **__):
        target.mkdir()
        (target / "MLmodel").write_text("model")

    pipeline.open_run = open_run
    pipeline.measure_cost = lambda *_: {}
    pipeline.packaging.save_model = save_model
    pipeline.write_report = lambda path, _: path.write_text("report")
    results.write_figures = lambda *_: []


def train_and_copy(words, folder, copies):
    """Train; before each write below `folder`, copy it."""
    stub_what_writes_elsewhere()
    active = True

    def copy(event, given):
        nonlocal active
        if not active or event not in _WRITES or not is_below(folder, event, *given):
            return
        if event == "open" and not (given[1] and set(given[1]) & set("wax+")):
            return
        active = False  # the copy writes too
        if folder.exists():
            shutil.copytree(folder, copies / f"{len(list(copies.iterdir())):04}")
        active = True

    sys.addaudithook(copy)
    return main(words)


def is_below(folder, event, path, *given):
    """Whether a path of an audit event is in the folder; rmtree names its files relative to an open folder."""
    if event in ("os.remove", "os.rmdir") and given[-1] > 0:
        path = Path(f"/proc/self/fd/{given[-1]}").readlink() / os.fsdecode(path)
    return str(path).startswith(str(folder))


def train(words):
    stub_what_writes_elsewhere()
    return main(words)


def contents(folder):
    """Path and digest of each file, that of the scores without time and energy."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(_content(path)).hexdigest() for path in files}


def _content(path):
    return repr(repeatable(read_json(path))).encode() if path.name == artifacts.OUTCOME else path.read_bytes()


def kind(path):
    """What a file is to a resumed run: steps do not differ, nor do the tables, nor unfinished JSON files."""
    if path.endswith(".json.partial"):
        return "unfinished"
    if path in artifacts.UPLOADED and path not in (artifacts.CONFIG, artifacts.ENVIRONMENT, artifacts.DATASET):
        return "table"
    return re.sub(r"\d+", "N", path)


@pytest.fixture(scope="module")
def states(base_settings, tmp_path_factory):
    """The folder of the whole run, and one copy of each distinct state before its end."""
    top = tmp_path_factory.mktemp("kills")
    (top / "copies").mkdir()
    settings = base_settings | {"epochs": 2, "checkpoint_steps": 3, "output": top / "runs"}
    words = as_argv(settings)
    log = top / "log"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        process = forked.start(log, train_and_copy, words, top / "runs" / _RUN, top / "copies")
        assert forked.wait(process) == 0, log.read_text()
    distinct = {}
    for copy in sorted((top / "copies").iterdir()):
        distinct.setdefault(frozenset(map(kind, contents(copy))), copy)
    return top / "runs" / _RUN, list(distinct.values()), settings


def resumed(copy, settings, top):
    """Exit status of the resumed run, and its files."""
    shutil.rmtree(top / "runs", ignore_errors=True)
    shutil.copytree(copy, top / "runs" / _RUN)
    reset_accelerate()
    status = train(as_argv(settings | {"output": top / "runs", "resume": _RUN}))
    return status, contents(top / "runs" / _RUN)


@pytest.mark.slow
def test_every_state_resumes_to_the_end(states, tmp_path, monkeypatch, capsys):
    whole, copies, settings = states
    expected = contents(whole)
    for module, names in STUBBED.items():  # to be restored after this test
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))
    statuses = []
    for copy in copies:
        before = set(contents(copy))
        status, files = resumed(copy, settings, tmp_path)
        statuses.append(status)
        said = " ".join(capsys.readouterr().err.split())
        if artifacts.CONFIG not in before:
            assert "stopped before it had saved its settings" in said, copy.name
        else:
            assert (status == 0) == (artifacts.OUTCOME not in before), said
            assert files.keys() == expected.keys(), copy.name  # no checkpoint and no half file stays
            differing = {name for name, digest in expected.items() if files[name] != digest}
            assert differing <= _WITH_OUTPUT_FOLDER, copy.name
    assert len(statuses) > 30
    assert statuses.count(0) > 20
