"""Full disks: a small disk is filled before a random write; after it is emptied, the next command puts all right."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.chaos import checks, commands, kills
from tests.chaos.commands import Ended
from tests.chaos.moments import Moment, fill_disk
from tests.chaos.promises import Attack, Attempt
from tests.chaos.templates import Measured, accept_candidates, copy_place

__all__ = ["ATTACKS"]

SAYS_SO = "A command on a full disk ends well or says that there is no space, without a traceback"
GOES_ON = "After the disk has room, the next command completes the work with the same bits"
ONCE = "Metrics have every point exactly once"
WHOLE = "The output of predict is whole or absent"
DECIDED = "Aliases and tags follow the decision log"
NO_RUNNING = "Nothing is RUNNING after the next command"
_DISK_BYTES = 64 * 2**20


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a disk of 64 MiB on a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "chaos", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def no_small_disk() -> str:
    """Return why no small disk can be mounted; empty when it can."""
    if os.geteuid() == 0 and shutil.which("mount"):
        return ""
    return "only root can mount a small disk"


def fill_during(attempt: Attempt, disk: Path, module: str, argv: Sequence[object], measured: Measured) -> Ended:
    """Run a command whose disk is filled before a random write, then empty the disk."""
    number, free = attempt.rng.randint(1, measured.writes), attempt.rng.choice((0, 0, 4096, 20_000, 200_000))
    attempt.note(f"{module}: {free} bytes free from write {number} of {measured.writes} on")
    moment = Moment(number, partial(fill_disk, disk, free))
    ended = commands.start(attempt.folder, module, argv, moment=moment, prepare=accept_candidates).wait()
    (disk / "filler").unlink(missing_ok=True)
    attempt.check(SAYS_SO, [*checks.readable(ended), *checks.ended_well(ended, 0, 1), *_says_why(ended)])
    return ended


def _says_why(ended: Ended) -> list[str]:
    named = any(word in ended.text for word in ("space", "full", "disk"))
    return [] if ended.status == 0 or named else [f"no word about space: {ended.text[-400:]}"]


def train(attempt: Attempt) -> None:
    """The run folders are on the small disk."""
    templates, reference = attempt.templates, attempt.templates.trained
    folder = templates.new_folder(attempt.folder)
    with small_disk(folder / "disk") as disk:
        argv = [*templates.training, "--output", "disk/runs"]
        ended = fill_during(attempt, disk, "trainer.train", argv, reference)
        if ended.status != 0 and not list(disk.glob("runs/*/outcome.json")):
            ids = [path.parent.name for path in disk.glob("runs/*/config.json")]
            again = commands.start(folder, "trainer.train", [*argv, "--resume", ids[0]] if ids else argv).wait()
            attempt.check(GOES_ON, checks.ended_well(again))
        if (disk / "runs").is_dir():
            synced = commands.start(folder, "trainer.sync", ["--output", "disk/runs"]).wait()
            attempt.check(SAYS_SO, checks.readable(synced))
        attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db"))
        (original,) = reference.folder.glob("runs/*/outcome.json")
        for outcome in disk.glob("runs/*/outcome.json"):
            attempt.check(GOES_ON, checks.same_results(outcome.parent, original.parent))
            source = (reference.folder / "mlflow.db", original.parent.name)
            attempt.check(ONCE, checks.only_once(folder / "mlflow.db", outcome.parent.name, source))


def predict(attempt: Attempt) -> None:
    """The output is on the small disk."""
    templates, folder = attempt.templates, attempt.templates.new_folder(attempt.folder)
    suffix = attempt.rng.choice((".csv", ".jsonl", ".parquet"))
    measured = templates.once(f"predicted{suffix}", lambda: kills.predict_undisturbed(templates, suffix))
    wanted = (measured.folder / f"scored{suffix}").read_bytes()
    with small_disk(folder / "disk") as disk:
        output = disk / f"scored{suffix}"
        argv = kills.predict_argv(templates, str(output.relative_to(folder)))
        fill_during(attempt, disk, "registry.predict", argv, measured)
        whole = not output.exists() or output.read_bytes() == wanted
        attempt.check(WHOLE, None if whole else "the output is neither whole nor absent")
        again = commands.start(folder, "registry.predict", [*argv, "--overwrite", "true"]).wait()
        attempt.check(GOES_ON, checks.ended_well(again))
        same = output.is_file() and output.read_bytes() == wanted
        attempt.check(GOES_ON, None if same else f"{output.name} differs from the undisturbed one")


def promote(attempt: Attempt) -> None:
    """The folder of the command's run and its temporary files are on the small disk."""
    templates, folder = attempt.templates, attempt.folder
    champions = templates.champions
    words = ["--run_id", champions.run_ids[2]]
    measured = templates.once("registry.promote", lambda: kills.measure_decision(templates, "registry.promote", words))
    copy_place(champions.folder, folder)
    with small_disk(folder / "disk") as disk:
        words += ["--output", "disk/runs"]
        fill_during(attempt, disk, "registry.promote", words, measured)
        again = commands.start(folder, "registry.promote", words, prepare=accept_candidates).wait()
        attempt.check(GOES_ON, checks.ended_well(again))
        attempt.check(DECIDED, checks.registry_faults(folder))
        if (disk / "runs").is_dir():
            commands.start(folder, "trainer.sync", ["--output", "disk/runs"]).wait()
        attempt.check(NO_RUNNING, checks.no_running(folder / "mlflow.db"))


ATTACKS = (
    Attack("disks/train", train, (SAYS_SO, GOES_ON, ONCE, NO_RUNNING), 2, no_small_disk),
    Attack("disks/predict", predict, (SAYS_SO, WHOLE, GOES_ON), 1, no_small_disk),
    Attack("disks/promote", promote, (SAYS_SO, GOES_ON, DECIDED, NO_RUNNING), 1, no_small_disk),
)
