"""Searches: tune is killed or stopped at a random moment; the same command then completes the study."""

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tests.chaos import checks, commands
from tests.chaos.promises import Attack, Attempt
from tests.chaos.templates import Measured, Templates

__all__ = ["ATTACKS"]

COMPLETED = "A killed or stopped search is completed by the same command: each trial counts once"
STATUS = "A signal ends a search with the status of the signal, without a traceback"
NO_ORPHAN = "No training goes on after its search is gone"
NO_RUNNING = "Nothing is RUNNING, on the server or in the study, after the next command"
NO_CHECKPOINT = "No checkpoint is left"
_TRIALS = 2


def tune(attempt: Attempt) -> None:
    """Interrupt a search of two trials and one final, then give the same command again."""
    templates, folder = attempt.templates, attempt.templates.new_folder(attempt.folder)
    measured = templates.once("tuned", lambda: measure(templates))
    number = attempt.rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    seconds = attempt.rng.uniform(0.0, measured.seconds)
    attempt.note(f"{number.name} after {seconds:.1f} of {measured.seconds:.1f} s")
    running = commands.start(folder, "tuning.tune", argv_of(templates))
    while running.is_alive() and not running.has_handlers():
        time.sleep(0.005)
    limit = time.monotonic() + seconds
    while running.is_alive() and time.monotonic() < limit:
        time.sleep(0.02)
    running.kill(number)
    ended = running.wait()
    attempt.check(STATUS, [*checks.ended_well(ended, 0, 128 + number, -number), *checks.readable(ended)])
    attempt.check(NO_ORPHAN, checks.no_orphans(folder))
    if number != signal.SIGKILL and "-e sync" not in ended.text:
        attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db", killed_in=folder / "runs"))
    again = commands.start(folder, "tuning.tune", argv_of(templates)).wait(2 * commands.HANG_SECONDS)
    attempt.check(COMPLETED, [*checks.ended_well(again), *checks.readable(again), *trial_faults(folder)])
    attempt.check(NO_ORPHAN, checks.no_orphans(folder))
    commands.start(folder, "trainer.sync", []).wait()
    attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db", killed_in=folder / "runs"))
    # Trials keep their weights until a final has read test: only finished finals must have none.
    ends = [path.parent for path in folder.glob("runs/*/outcome.json") if (path.parent / "classifier").is_dir()]
    attempt.check(NO_CHECKPOINT, checks.join(*map(checks.no_checkpoints, ends)))


def argv_of(templates: Templates) -> list[object]:
    """Return the arguments of the search."""
    space = templates.once("space", lambda: make_space(templates.folder / "space.yaml"))
    names = ("--learning_rate",)
    training = dict(zip(templates.training[::2], templates.training[1::2], strict=True))
    given = [word for name, value in training.items() if name not in names for word in (name, value)]
    search = {"study": "chaos", "trials": _TRIALS, "workers": 1, "pruner": "none", "space": space, "sampler": "random"}
    finals = {"top_k": 1, "seeds": 1}
    return [*given, *(word for name, value in {**search, **finals}.items() for word in (f"--{name}", value))]


def make_space(path: Path) -> Path:
    """Write a space with one setting."""
    path.write_text("learning_rate: {low: 0.0005, high: 0.002, log: true}\n")
    return path


def measure(templates: Templates) -> Measured:
    """Run the search undisturbed."""
    return templates.measure("tuned", "tuning.tune", argv_of(templates))


def trial_faults(folder: Path) -> list[str]:
    """The study has each trial once: as many complete ones as asked for, none running or waiting."""
    statement = (
        "SELECT state FROM trials JOIN studies USING (study_id) WHERE study_name = 'chaos'"  # finals have others
    )
    with closing(sqlite3.connect(folder / "runs" / "optuna.db", timeout=60)) as connection:
        states = [state for (state,) in connection.execute(statement)]
    complete = states.count("COMPLETE")
    open_ones = [state for state in states if state in ("RUNNING", "WAITING")]
    return [] if complete == _TRIALS and not open_ones else [f"trials are {', '.join(states)}"]


ATTACKS = (Attack("searches/tune", tune, (COMPLETED, STATUS, NO_ORPHAN, NO_RUNNING, NO_CHECKPOINT), 5),)
