"""What is printed, where, and that no terminal or pipe breaks on it."""

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.core.errors import DataError
from trainer.reporting import console
from trainer.reporting.progress import LineProgress
from trainer.reporting.report import DASH, Estimate, LabelScore, PolicyScore, interval

ROOT = Path(__file__).parents[2]
PLAN = {
    "data": {"source": "starter", "train": 1100, "digest": "9f0c2b1d"},
    "model": {"encoder": "an encoder with a name of some length", "parameters": 22713216, "max_length": 64},
    "run": {"device": "cpu", "precision": "bf16", "steps": 5425, "learning_rate": 1e-4},
}
POLICIES = [
    PolicyScore(name="fixed", test_macro_f1=Estimate(0.462, 0.451, 0.473), test_micro_f1=Estimate(0.572)),
    PolicyScore(
        name="per_label_shrunk",
        test_macro_f1=Estimate(0.531, 0.519, 0.544),
        test_micro_f1=Estimate(0.602, 0.592, 0.612),
        chosen=True,
    ),
]
LABELS = [LabelScore(name=f"emotion {i:02}", support=10 * i, f1=Estimate(i / 30)) for i in range(28)]
EPOCH = {
    "epoch": 10,
    "epochs": 10,
    "step": 13570,
    "train/loss": 12.345,
    "dev/loss": 2.3,
    "dev/macro_f1": 0.512,
    "dev/micro_f1": 0.588,
    "best": True,
}
NUMBERS = {"train/loss": 2.134, "train/learning_rate": 1e-4, "train/samples_per_second": 212.4, "train/grad_norm": 1.0}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def show_everything(target: console.Console) -> None:
    target.show_plan(PLAN, "This is the starter. For the real thing: mlflow run . -e train -P preset=goemotions-minilm")
    with target.progress(100) as bar:
        bar.update(10, NUMBERS)
        target.show_epoch(EPOCH)
        target.show_warning("the tracking server does not answer; numbers wait on disk")
        bar.update(100, NUMBERS)
    target.show_note("registered version 3")
    target.show_result(POLICIES, LABELS, ["Report: runs/3f2a/report.html"])
    target.show_error(DataError("dataset must be a folder, but got dataset='x'. Give one."))


def printed(stream: type[io.StringIO] = io.StringIO, **settings) -> tuple[str, str]:
    out, err = stream(), stream()
    show_everything(console.make(out=out, err=err, **settings))
    return out.getvalue(), err.getvalue()


def test_a_pipe_gets_plain_short_lines():
    out, err = printed()
    assert "\x1b" not in out + err
    assert "\r" not in out + err
    assert max(len(line) for line in (out + err).splitlines()) <= 80
    assert len(out.splitlines()) < 30


def test_a_pipe_gets_an_error_in_one_line():
    err = io.StringIO()
    message = f"`dataset` must be a folder, got {'long ' * 40}path."
    console.make(out=err, err=err).show_error(DataError(message))
    assert err.getvalue().splitlines() == [f"error: {message}"]


def test_a_terminal_without_colour_gets_none(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[\d;]*[349]\d", "".join(printed(Terminal)))


def test_a_dumb_terminal_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out, err = printed(Terminal)
    assert "\x1b" not in out + err
    assert "(10 %)" in out


def test_a_terminal_gets_colour_and_a_bar():
    out, err = printed(Terminal)
    assert "\x1b[" in out
    assert "100/100" in out
    assert "error:" in err


def test_everything_given_is_said():
    out, _ = printed()
    for text in ("1,100", "9f0c2b1d", "22,713,216", "bf16", "0.0001", "goemotions-minilm", "loss 2.134", "lr 1.0e-04"):
        assert text in out
    for text in ("212 samples/s", "epoch 10/10", "macro F1 0.512", "best", "version 3", "report.html"):
        assert text in out
    assert interval(Estimate(0, 0.519, 0.544)) in out
    chosen = [line for line in out.splitlines() if line.rstrip().endswith("chosen")]
    assert len(chosen) == 1
    assert "per_label_shrunk" in chosen[0]


def test_errors_and_warnings_go_to_standard_error_only():
    out, err = printed()
    assert "error: dataset must be a folder" in err
    assert "warning: the tracking server" in err
    assert "error:" not in out
    assert "warning:" not in out


def test_a_warning_is_printed_above_the_live_bar():
    out, err = Terminal(), Terminal()
    target = console.make(out=out, err=err)
    with target.progress(10):
        target.show_warning("during")
    target.show_warning("after")
    assert "during" in out.getvalue()
    assert "during" not in err.getvalue()
    assert "after" in err.getvalue()


def test_quiet_prints_nothing():
    assert printed(quiet=True) == ("", "")
    assert printed(Terminal, quiet=True) == ("", "")


def test_five_lowest_and_highest_labels_and_those_not_on_test():
    out, _ = printed()
    table = out[out.index("lowest F1") :]
    assert [f"emotion {i:02}" in table for i in range(28)] == [i <= 5 or i >= 23 for i in range(28)]
    assert "not on test: emotion 00" in table
    first = table.splitlines()[1]
    assert "emotion 01" in first
    assert "(10)" in first
    assert "emotion 27" in first
    assert "0.900 (270)" in first


@pytest.mark.parametrize("k", [0, 1, 2, 3, 9])
def test_no_label_is_listed_twice(k):
    out = io.StringIO()
    console.make(out=out, err=out).show_result(POLICIES, LABELS[1 : k + 1])
    assert [out.getvalue().count(row.name) for row in LABELS[1 : k + 1]] == [1] * k


def test_an_unknown_f1_is_neither_high_nor_low():
    out = io.StringIO()
    rows = [*LABELS[1:4], LabelScore(name="unknown", support=9, f1=Estimate(float("nan")))]
    console.make(out=out, err=out).show_result([], rows)
    assert "not on test: unknown" in out.getvalue()


@pytest.mark.parametrize("stream", ["pipe", "terminal"])
def test_a_stream_without_the_letters_gets_ascii(stream):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii", write_through=True)
    out.isatty = lambda: stream == "terminal"
    target = console.make(out=out, err=out)
    show_everything(target)
    target.show_note(f"café → 0.5{DASH}0.6 … 😀 \udcff")
    text = raw.getvalue().decode("ascii")
    assert "0.519-0.544" in text
    assert "caf? ? 0.5-0.6 ? ? ?" in text


def test_the_c_locale_in_a_real_process():
    code = r"from trainer.reporting import console; console.make().show_note('joy \u2192 0.5 \u2013 0.6')"
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout == "joy ? 0.5 - 0.6\n"
    assert done.stderr == ""


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_text_from_outside_is_neither_markup_nor_control(stream):
    out = stream()
    console.make(out=out, err=out).show_note("[bold]joy[/bold] :smile: \x1b[2Jgone\x07")
    assert "[bold]joy[/bold] :smile: ?[2Jgone?" in out.getvalue()


def test_lists_in_errors_keep_their_lines_and_paths_stay_whole():
    path = "/data/" + "x" * 100
    err = io.StringIO()
    console.make(out=err, err=err).show_error(DataError(f"2 problems in {path}:\n  line 3: empty\n  line 9: empty"))
    assert path in err.getvalue()
    assert [line.strip() for line in err.getvalue().splitlines()[-2:]] == ["line 3: empty", "line 9: empty"]


def test_epoch_line_shows_what_is_known():
    out = io.StringIO()
    console.make(out=out, err=out).show_epoch({"epoch": 1, "dev/macro_f1": 0.25})
    assert out.getvalue() == "epoch 1  dev macro F1 0.250\n"


def test_progress_lines_come_each_tenth_or_each_half_minute():
    lines, clock = [], Clock()
    bar = LineProgress(lines.append, 1000, 0, clock)
    for step in range(1, 1001):
        clock.seconds += 0.01
        bar.update(step, {})
    assert len(lines) == 10
    assert lines[0].startswith("step 100/1,000 (10 %)")
    lines.clear()
    slow = LineProgress(lines.append, 1000, 0, clock)
    for step in range(1, 50):
        clock.seconds += 10
        slow.update(step, {})
    assert [line.split()[1] for line in lines] == [f"{step}/1,000" for step in range(3, 49, 3)]
    assert lines[0].endswith("ETA 2:46:10")


def test_progress_after_a_resume_counts_only_new_steps():
    lines, clock = [], Clock()
    bar = LineProgress(lines.append, 100, 50, clock)
    clock.seconds = 10
    bar.update(59, {})
    bar.update(60, NUMBERS)
    assert lines == ["step 60/100 (60 %)  loss 2.134  lr 1.0e-04  212 samples/s  ETA 0:40"]


def test_progress_names_another_unit():
    out = io.StringIO()
    with console.make(out=out, err=out).progress(200, unit="KiB") as bar:
        bar.update(100, {"rows_per_second": 1234.5})
    assert out.getvalue().startswith("KiB 100/200 (50 %)  1,234 rows/s")
    live = Terminal()
    with console.make(out=live, err=live).progress(200, unit="KiB") as bar:
        bar.update(200, {"rows_per_second": 1234.5})
    assert "200/200 KiB 1,234 rows/s" in re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", live.getvalue())


def test_many_labels_without_positives_are_abbreviated():
    out = io.StringIO()
    rows = [LabelScore(name=f"label {j}", support=0, f1=Estimate(0.0)) for j in range(500)]
    console.make(out=out, err=out).show_result([], rows)
    assert len(out.getvalue()) < 500
    assert "and 490 more" in " ".join(out.getvalue().split())


def test_a_rule_shows_the_required_value():
    out = io.StringIO()
    console.make(out=out, err=out).show_rules([(True, "gain", "+0.1", "+0"), (False, "size", "9 MB", "at most 5 MB")])
    passed, failed = out.getvalue().splitlines()
    assert "gain: +0.1; required: +0" in passed
    assert "FAILED" in failed
    assert "at most 5 MB" in failed
