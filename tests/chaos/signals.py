"""Signals: Ctrl-C once and three times, SIGTERM, a closed terminal, SIGQUIT, a reader of the output that goes away."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import checks, commands, kills
from tests.chaos.commands import Ended, Running
from tests.chaos.promises import Attack, Attempt
from tests.chaos.templates import Measured, accept_candidates, copy_place

__all__ = ["ATTACKS"]

STATUS = "A signal ends a command with the status of the signal, without a traceback"
ENDED = "Nothing is RUNNING and no process goes on after it, or after the sync that it names"
RESUMES = "A stopped training resumes to the end with the same bits, and every metric point once"
NO_SCRATCH = "A stopped command leaves no temporary folder"
WHOLE = "The output of predict is whole or absent, and the next command gives the same bytes"
DECIDED = "After the next command, aliases and tags follow the decision log"
PIPE = "A reader that goes away, as in `| head -1`, costs no run its status"

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def stop(attempt: Attempt, running: Running, measured: Measured) -> tuple[Ended, tuple[int, ...]]:
    """Send signals at a random moment; return how the command ended, and the statuses that are right."""
    number, times = attempt.rng.choice(_SIGNALS), attempt.rng.choice((1, 1, 3))
    seconds = attempt.rng.uniform(0.0, measured.seconds)
    attempt.note(f"{times} x {number.name} after {seconds:.2f} s")
    while running.is_alive() and not running.has_handlers():  # before, a signal meets Python, not the command
        time.sleep(0.005)
    limit = time.monotonic() + seconds
    while running.is_alive() and time.monotonic() < limit:
        time.sleep(0.01)
    for _ in range(times):
        running.kill(number)
        time.sleep(0.2)
    return running.wait(), (0, 128 + number, -number)


def train(attempt: Attempt) -> None:
    """Stop a training and resume it."""
    templates, reference = attempt.templates, attempt.templates.trained
    folder = templates.new_folder(attempt.folder)
    running = commands.start(folder, "trainer.train", templates.training)
    ended, allowed = stop(attempt, running, reference)
    attempt.check(STATUS, [*checks.ended_well(ended, *allowed), *checks.readable(ended)])
    check_training(attempt, ended)


def after_stop(attempt: Attempt, ended: Ended) -> list[str]:
    """Nothing goes on, and nothing is RUNNING; a command that could not deliver all in time names `sync`."""
    faults = checks.no_orphans(attempt.folder)
    if "-e sync" in ended.text:
        attempt.note("the command named sync")
        commands.start(attempt.folder, "trainer.sync", []).wait()
    return [*faults, *checks.no_running(attempt.folder / "mlflow.db")]


def check_training(attempt: Attempt, ended: Ended) -> None:
    """Nothing goes on, and the run resumes to the end."""
    templates, folder, reference = attempt.templates, attempt.folder, attempt.templates.trained
    store = folder / "mlflow.db"
    attempt.check(ENDED, after_stop(attempt, ended))
    attempt.check(NO_SCRATCH, checks.no_scratch(folder))
    ids = [path.parent.name for path in folder.glob("runs/*/config.json")]
    if ended.status != 0 and ids and not list(folder.glob("runs/*/outcome.json")):
        again = commands.start(folder, "trainer.train", [*templates.training, "--resume", ids[0]]).wait()
        attempt.check(RESUMES, checks.ended_well(again))
    (original,) = reference.folder.glob("runs/*/outcome.json")
    for outcome in folder.glob("runs/*/outcome.json"):
        run_folder = outcome.parent
        attempt.check(RESUMES, checks.same_results(run_folder, original.parent))
        source = (reference.folder / "mlflow.db", original.parent.name)
        attempt.check(RESUMES, checks.only_once(store, run_folder.name, source))


def lost_reader(attempt: Attempt) -> None:
    """The reader of a training's output goes away after some bytes, or there is no output at all."""
    templates = attempt.templates
    folder = templates.new_folder(attempt.folder)
    words: Sequence[object] = [sys.executable, "-m", "trainer.train", *templates.training]
    if attempt.rng.random() < 0.3:
        attempt.note("standard output is closed")
        running = commands.start_real(folder, ["sh", "-c", 'exec "$@" >&-', "sh", *words])
    else:
        size = attempt.rng.choice((0, 1, 200, 1500))
        attempt.note(f"the reader goes away after {size} bytes")
        reader, writer = os.pipe()
        running = commands.start_real(folder, words, stdout=writer)
        os.close(writer)
        if size:
            os.read(reader, size)
        os.close(reader)
    ended = running.wait()
    attempt.check(PIPE, [*checks.ended_well(ended, 0, 141, -signal.SIGPIPE), *checks.readable(ended)])
    check_training(attempt, ended)


def predict(attempt: Attempt) -> None:
    """Stop a scoring job and continue it."""
    templates, folder = attempt.templates, attempt.templates.new_folder(attempt.folder)
    measured = templates.once("predicted.csv", lambda: kills.predict_undisturbed(templates, ".csv"))
    wanted, output = (measured.folder / "scored.csv").read_bytes(), folder / "scored.csv"
    argv = kills.predict_argv(templates, output.name)
    ended, allowed = stop(attempt, commands.start(folder, "registry.predict", argv), measured)
    attempt.check(STATUS, [*checks.ended_well(ended, *allowed), *checks.readable(ended)])
    attempt.check(ENDED, checks.no_orphans(folder))
    attempt.check(NO_SCRATCH, checks.no_scratch(folder))
    whole = not output.exists() or output.read_bytes() == wanted
    attempt.check(WHOLE, None if whole else "the output is neither whole nor absent")
    again = commands.start(folder, "registry.predict", [*argv, "--overwrite", "true"]).wait()
    same = output.is_file() and output.read_bytes() == wanted
    attempt.check(WHOLE, [*checks.ended_well(again), *([] if same else ["the output differs"])])


def promote(attempt: Attempt) -> None:
    """Stop promote or rollback, then promote."""
    templates, folder = attempt.templates, attempt.folder
    run_ids = templates.champions.run_ids
    promotion, rollback = ["--run_id", run_ids[2]], ["--reason", "chaos"]
    module, words = attempt.rng.choice((("registry.promote", promotion), ("registry.rollback", rollback)))
    measured = templates.once(module, lambda: kills.measure_decision(templates, module, words))
    copy_place(templates.champions.folder, folder)
    attempt.note(module)
    ended, allowed = stop(attempt, commands.start(folder, module, words, prepare=accept_candidates), measured)
    attempt.check(STATUS, [*checks.ended_well(ended, *allowed), *checks.readable(ended)])
    attempt.check(ENDED, after_stop(attempt, ended))
    attempt.check(NO_SCRATCH, checks.no_scratch(folder))
    again = commands.start(folder, "registry.promote", promotion, prepare=accept_candidates).wait()
    attempt.check(DECIDED, [*checks.ended_well(again), *checks.registry_faults(folder)])


def project(attempt: Attempt) -> None:
    """Kill or stop `mlflow run` alone: its training must not go on as an orphan."""
    templates, folder = attempt.templates, attempt.templates.new_folder(attempt.folder)
    given = dict(zip(templates.training[::2], templates.training[1::2], strict=True))
    settings = [word for name, value in given.items() for word in ("-P", f"{name.removeprefix('--')}={value}")]
    program = Path(sys.executable).with_name("mlflow")
    words = [program, "run", commands.ROOT, "-e", "train", "--env-manager", "local", *settings]
    running = commands.start_real(folder, [*words, "-P", f"output={folder}/runs"])
    for _ in range(1200):  # until the training has begun
        if not running.is_alive() or list(folder.glob("runs/*/config.json")):
            break
        time.sleep(0.05)
    number = attempt.rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    attempt.note(f"{number.name} to mlflow run")
    time.sleep(attempt.rng.uniform(0, 2))
    running.kill(number)
    ended = running.wait()
    attempt.check(STATUS, checks.ended_well(ended, 0, 1, 128 + number, -number))
    orphans = checks.no_orphans(folder)
    commands.start(folder, "trainer.sync", []).wait()
    attempt.check(ENDED, [*orphans, *checks.no_running(folder / "mlflow.db")])


ATTACKS = (
    Attack("signals/train", train, (STATUS, ENDED, RESUMES, NO_SCRATCH), 2),
    Attack("signals/lost-reader", lost_reader, (PIPE, ENDED, RESUMES, NO_SCRATCH), 1),
    Attack("signals/predict", predict, (STATUS, ENDED, WHOLE, NO_SCRATCH), 1),
    Attack("signals/promote", promote, (STATUS, ENDED, DECIDED, NO_SCRATCH), 1),
    Attack("signals/mlflow-run", project, (STATUS, ENDED), 1),
)
