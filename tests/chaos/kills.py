"""Kills: SIGKILL at a random moment, by the clock or before a random write; the next command must put all right."""

import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tests.chaos import checks, commands
from tests.chaos.commands import Ended
from tests.chaos.moments import Moment
from tests.chaos.promises import Attack, Attempt
from tests.chaos.templates import Measured, Templates, accept_candidates, copy_place

__all__ = ["ATTACKS"]

RESUMES = "A killed training resumes to the end, or says that nothing can be resumed"
BIT_EQUAL = "Its results have the same bits as those of an undisturbed training"
ONCE = "Its metrics have every point exactly once"
NO_RUNNING = "After the next command nothing is RUNNING"
NO_ORPHAN = "No process goes on after a kill"
NO_CHECKPOINT = "A finished run keeps no checkpoint"
NO_PARTIAL = "No partly written file and no temporary folder is left after the next command"
READABLE = "No traceback, and no message of more than 300 characters"
WHOLE = "The output of predict is whole or absent, and the next command gives the same bytes"
DECIDED = "After the next command, aliases and tags follow the decision log, and each command decided once at most"
COUNTED = "A killed search is completed by the same command: each trial counts once"
DELIVERED = "A killed sync is completed by the next one: every event is delivered once"
UNCHANGED = "A killed history changes nothing"


def kill_once(attempt: Attempt, module: str, argv: Sequence[object], measured: Measured) -> Ended:
    """Start a command and kill it at a random moment; it may end before."""
    by_write = attempt.rng.random() < 0.6
    before = attempt.rng.randint(1, max(measured.writes, 1)) if by_write else 0
    seconds = attempt.rng.uniform(0.0, measured.seconds)
    attempt.note(
        f"{module}: kill before write {before} of {measured.writes}"
        if by_write
        else f"{module}: kill after {seconds:.2f} s"
    )
    moment = Moment(before) if by_write else None
    running = commands.start(attempt.folder, module, argv, moment=moment, prepare=accept_candidates)
    if by_write:
        return running.wait()
    limit = time.monotonic() + seconds
    while running.is_alive() and time.monotonic() < limit:
        time.sleep(0.005)
    running.kill(signal.SIGKILL)
    return running.wait()


def kill_train(attempt: Attempt) -> None:
    """Kill a training up to three times, resume it each time, and compare it with an undisturbed one."""
    templates = attempt.templates
    reference, folder = templates.trained, templates.new_folder(attempt.folder)
    argv = [*templates.training]
    for _ in range(attempt.rng.choice((1, 1, 2, 3))):
        ended = kill_once(attempt, "trainer.train", argv, reference)
        if ended.status != -signal.SIGKILL:
            break
        argv = _resume(templates.training, folder)
    finish_train(attempt, argv, ended, reference)


def finish_train(attempt: Attempt, argv: Sequence[object], ended: Ended, reference: Measured) -> None:
    """Resume a disturbed training unless it has ended, deliver the rest, and check what is left."""
    folder = attempt.folder
    attempt.check(NO_ORPHAN, checks.no_orphans(folder))
    if ended.status != 0 and not list(folder.glob("runs/*/outcome.json")):
        ended = commands.start(folder, "trainer.train", argv).wait()
        attempt.check(RESUMES, checks.ended_well(ended))
        attempt.check(READABLE, checks.readable(ended))
    elif ended.status == -signal.SIGKILL:  # all results are there: nothing to resume
        again = commands.start(folder, "trainer.train", argv).wait()
        attempt.check(RESUMES, checks.ended_well(again, 0, 1))
        attempt.check(READABLE, checks.readable(again))
    synced = commands.start(folder, "trainer.sync", []).wait() if (folder / "runs").is_dir() else ended
    attempt.check(READABLE, checks.readable(synced))
    attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db", killed_in=folder / "runs"))
    attempt.check(NO_PARTIAL, [*checks.no_partial_files(folder), *checks.no_scratch(folder)])
    (original,) = reference.folder.glob("runs/*/outcome.json")
    for outcome in folder.glob("runs/*/outcome.json"):
        run_folder = outcome.parent
        attempt.check(BIT_EQUAL, checks.same_results(run_folder, original.parent))
        point_source = (reference.folder / "mlflow.db", original.parent.name)
        attempt.check(ONCE, checks.only_once(folder / "mlflow.db", run_folder.name, point_source))
        attempt.check(NO_CHECKPOINT, checks.no_checkpoints(run_folder))


def _resume(training: Sequence[str], folder: Path) -> list[str]:
    """Arguments of the next command: resume the run, when its folder says how it was set."""
    runs = [path.parent.name for path in folder.glob("runs/*/config.json")]
    return [*training, "--resume", runs[0]] if runs else [*training]


def kill_predict(attempt: Attempt) -> None:
    """Kill a scoring job up to three times and continue it."""
    templates, rng = attempt.templates, attempt.rng
    suffix = rng.choice((".csv", ".jsonl", ".parquet"))
    wanted = templates.once(f"predicted{suffix}", lambda: predict_undisturbed(templates, suffix))
    folder, argv = templates.new_folder(attempt.folder), predict_argv(templates, f"scored{suffix}")
    output = folder / f"scored{suffix}"
    for _ in range(rng.choice((1, 1, 2, 3))):
        ended = kill_once(attempt, "registry.predict", argv, wanted)
        whole = output.exists() and output.read_bytes() != (wanted.folder / output.name).read_bytes()
        attempt.check(WHOLE, "the output is neither whole nor absent" if whole else None)
        if ended.status != -signal.SIGKILL:
            break
    again = commands.start(folder, "registry.predict", [*argv, "--overwrite", "true"]).wait()
    attempt.check(WHOLE, checks.ended_well(again))
    same = output.is_file() and output.read_bytes() == (wanted.folder / output.name).read_bytes()
    attempt.check(WHOLE, None if same else f"{output.name} differs from the undisturbed one")
    attempt.check(READABLE, checks.readable(again))
    attempt.check(NO_ORPHAN, checks.no_orphans(folder))
    parts = [path.name for path in folder.glob(".*.parts")]
    left = [f"left: {name}" for name in parts]
    attempt.check(NO_PARTIAL, [*checks.no_partial_files(folder), *checks.no_scratch(folder), *left])


def predict_argv(templates: Templates, output: str) -> list[object]:
    """Return the arguments of a job of six chunks."""
    words = ["--input", templates.texts, "--output", output, "--model", templates.saved_model]
    return [*words, "--chunk_rows", 7]


def predict_undisturbed(templates: Templates, suffix: str) -> Measured:
    """Run that job undisturbed."""
    return templates.measure(f"predicted{suffix}", "registry.predict", predict_argv(templates, f"scored{suffix}"))


def kill_promote(attempt: Attempt) -> None:
    """Kill a promotion, then promote again."""
    run_ids = attempt.templates.champions.run_ids
    _decide(attempt, "registry.promote", ["--run_id", run_ids[2]])


def kill_rollback(attempt: Attempt) -> None:
    """Kill a rollback; the next command, another promotion, puts all right."""
    run_ids = attempt.templates.champions.run_ids
    _decide(attempt, "registry.rollback", ["--reason", "chaos"], ["--run_id", run_ids[2]])


def _decide(attempt: Attempt, module: str, words: list[str], then: list[str] | None = None) -> None:
    templates, folder = attempt.templates, attempt.folder
    measured = templates.once(module, lambda: measure_decision(templates, module, words))
    copy_place(templates.champions.folder, folder)
    kill_once(attempt, module, words, measured)
    again = commands.start(folder, "registry.promote", then or words, prepare=accept_candidates).wait()
    attempt.check(DECIDED, checks.ended_well(again))
    attempt.check(READABLE, checks.readable(again))
    attempt.check(DECIDED, checks.registry_faults(folder))
    attempt.check(NO_ORPHAN, checks.no_orphans(folder))
    commands.start(folder, "trainer.sync", []).wait()
    attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db", killed_in=folder / "runs"))
    attempt.check(NO_PARTIAL, [*checks.no_partial_files(folder), *checks.no_scratch(folder)])


def measure_decision(templates: Templates, module: str, words: list[str]) -> Measured:
    """Run promote or rollback undisturbed, in a copy of the champions."""
    return templates.measure(module, module, words, templates.champions.folder)


def kill_history(attempt: Attempt) -> None:
    """Kill a command that only reads."""
    templates, folder = attempt.templates, attempt.folder
    start = templates.champions.folder
    measured = templates.once("history", lambda: templates.measure("history", "registry.history", [], start))
    copy_place(start, folder)
    kill_once(attempt, "registry.history", [], measured)
    attempt.check(UNCHANGED, checks.registry_faults(folder))
    ended = commands.start(folder, "registry.history", []).wait()
    attempt.check(UNCHANGED, checks.ended_well(ended))


def kill_sync(attempt: Attempt) -> None:
    """Kill the delivery of a run whose training was killed, and deliver again."""
    templates, folder = attempt.templates, attempt.folder
    undelivered = templates.once("undelivered", lambda: _make_undelivered(attempt))
    copy_place(undelivered.folder, folder)
    kill_once(attempt, "trainer.sync", [], undelivered)
    ended = commands.start(folder, "trainer.sync", []).wait()
    attempt.check(DELIVERED, checks.ended_well(ended))
    attempt.check(READABLE, checks.readable(ended))
    attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db", killed_in=folder / "runs"))
    (original,) = templates.trained.folder.glob("runs/*/outcome.json")
    (run_folder,) = (path.parent for path in folder.glob("runs/*/config.json"))
    source = (templates.trained.folder / "mlflow.db", original.parent.name)
    attempt.check(DELIVERED, checks.only_once(folder / "mlflow.db", run_folder.name, source))


def _make_undelivered(attempt: Attempt) -> Measured:
    """A finished run none of whose events is known to be delivered."""
    templates = attempt.templates
    place = templates.folder / "undelivered"
    copy_place(templates.trained.folder, place)
    (offset,) = place.glob("runs/*/events.offset")
    offset.write_text(f"{0:020d}\n")
    trial = place.with_name("undelivered-measured")
    copy_place(place, trial)
    ended = commands.start(trial, "trainer.sync", []).wait()
    shutil.rmtree(trial)
    return Measured(place, ended.seconds, ended.writes)


ATTACKS = (
    Attack(
        "kills/train",
        kill_train,
        (RESUMES, BIT_EQUAL, ONCE, NO_RUNNING, NO_ORPHAN, NO_CHECKPOINT, NO_PARTIAL, READABLE),
        4,
    ),
    Attack("kills/predict", kill_predict, (WHOLE, READABLE, NO_ORPHAN, NO_PARTIAL), 2),
    Attack("kills/promote", kill_promote, (DECIDED, READABLE, NO_ORPHAN, NO_RUNNING, NO_PARTIAL), 2),
    Attack("kills/rollback", kill_rollback, (DECIDED, READABLE, NO_ORPHAN, NO_RUNNING, NO_PARTIAL), 2),
    Attack("kills/sync", kill_sync, (DELIVERED, READABLE, NO_RUNNING), 1),
    Attack("kills/history", kill_history, (UNCHANGED,), 0.5),
)
