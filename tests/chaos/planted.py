"""Secrets planted in addresses, settings and the environment, then searched for in everything that a command leaves."""

import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from tests.chaos import checks, commands
from tests.chaos.promises import Attack, Attempt
from tests.chaos.templates import Templates, copy_place

__all__ = ["ATTACKS"]

HIDDEN = "No secret of an address, setting or variable is in terminal output, run folder, database or artifacts"
NO_ARGUMENT = "No secret is in the arguments of a process that a command starts"
NO_VARIABLE = "No secret reaches the process that loads a candidate's model"
READABLE = "No traceback, and no message of more than 300 characters"

_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "OPENAI_API_KEY", "DATABASE_URL")


class Watch:
    """Looks at the processes of an attempt until it is closed."""

    def __init__(self, folder: Path, secret: str, given_to: Iterable[int]) -> None:
        self.in_arguments: set[str] = set()
        self.in_check: set[str] = set()
        self._folder, self._secret, self._given_to = folder, secret, set(given_to)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(0.1):
            for pid in self._given_to:
                try:
                    self._look_at(psutil.Process(pid).children(recursive=True))
                except psutil.Error:
                    continue

    def _look_at(self, processes: list[psutil.Process]) -> None:
        for process in processes:
            try:
                words, variables = process.cmdline(), process.environ()
            except psutil.Error:
                continue
            if any(self._secret in word for word in words):
                self.in_arguments.add(" ".join(words)[:200])
            if any("trainer.serving.check" in word or "foreign_check" in word for word in words):
                self.in_check |= {name for name, value in variables.items() if self._secret in value}


def command(attempt: Attempt) -> None:
    """Plant a secret for one of the commands."""
    plant(attempt, attempt.rng.choice(_COMMANDS))


def promote(attempt: Attempt) -> None:
    """Plant a secret for a promotion with the real check of the model."""
    plant(attempt, _promote)


def plant(attempt: Attempt, choose: "Callable[[Attempt, str], _Planted]") -> None:
    """Plant one secret in several places, run a command, and search for it."""
    templates, rng, folder = attempt.templates, attempt.rng, attempt.folder
    secret = f"hunter{rng.randrange(10**12):012d}"
    module, argv, variables = choose(attempt, secret)
    variables = dict.fromkeys(_VARIABLES, f"x-{secret}") | {"MLFLOW_TRACKING_USERNAME": "ann"} | variables
    if not folder.exists():
        templates.new_folder(folder)
    attempt.note(f"{module} {' '.join(map(str, argv[-4:]))} {variables.get('MLFLOW_TRACKING_URI', '')}")
    running = commands.start(folder, module, argv, variables=variables)
    with Watch(folder, secret, [running.pid]) as watch:
        ended = running.wait()
    attempt.check(READABLE, checks.readable(ended))
    attempt.check(NO_ARGUMENT, sorted(watch.in_arguments))
    if module == "registry.promote":
        attempt.check(NO_VARIABLE, sorted(watch.in_check))
    places = [folder]
    if "server" in variables.get("CHAOS_PLACE", ""):
        places.append(templates.server.folder)
    attempt.check(HIDDEN, find_secret(places, secret))


def find_secret(places: Iterable[Path], secret: str) -> list[str]:
    """Return where the secret stands: in a name or the content of a file."""
    found = []
    for place in places:
        for path in place.rglob("*"):
            if secret in path.name:
                found.append(f"name {path}")
            if path.is_file() and not path.is_symlink() and secret.encode() in (content := path.read_bytes()):
                at = content.index(secret.encode())
                found.append(f"{path}: ...{content[max(0, at - 80) : at + 30].decode(errors='replace')}")
    return found[:5]


_Planted = tuple[str, list[object], dict[str, str]]


def _train_on_server(attempt: Attempt, secret: str) -> _Planted:
    """A training whose server has the secret in its address."""
    templates: Templates = attempt.templates
    address = templates.server.uri.replace("://", f"://ann:{secret}@")
    return "trainer.train", [*templates.training], {"MLFLOW_TRACKING_URI": address, "CHAOS_PLACE": "server"}


def _address(attempt: Attempt, secret: str) -> str:
    """An address of a server that does not answer, with the secret in one of the places where users write it."""
    return attempt.rng.choice(
        (
            f"http://ann:{secret}@127.0.0.1:1",
            f"http://ann:a/{secret}@127.0.0.1:1",
            f"http://ann:a@{secret}@127.0.0.1:1",
            f"http://{secret}@127.0.0.1:1",
            f"http://127.0.0.1:1/?token={secret}",
            f"http://127.0.0.1:1/x?a=1&sig={secret}",
            f"postgresql://ann:{secret}@127.0.0.1:1/db",
            f"postgresql://ann:a/{secret}@127.0.0.1:1/db",
            f"mysql+pymysql://ann:{secret}@127.0.0.1:1/db",
        )
    )


def _no_server(attempt: Attempt, secret: str) -> _Planted:
    """Any command whose server does not answer."""
    templates = attempt.templates
    module, argv = attempt.rng.choice(
        (
            ("trainer.train", [*templates.training]),
            ("registry.promote", ["--run_id", "a" * 32]),
            ("registry.rollback", []),
            ("registry.history", []),
            ("registry.predict", ["--input", templates.texts, "--output", "x.csv", "--model", "models:/m/1"]),
            ("tuning.tune", [*templates.training, "--trials", 1]),
        )
    )
    return module, argv, {"MLFLOW_TRACKING_URI": _address(attempt, secret)}


def _setting(attempt: Attempt, secret: str) -> _Planted:
    """A setting that is an address with the secret."""
    templates, rng = attempt.templates, attempt.rng
    given = dict(zip(templates.training[::2], templates.training[1::2], strict=True))
    value = rng.choice((f"https://ann:{secret}@host/x", f"https://host/x?token={secret}", f"s3://ann:{secret}@b/x"))
    given[rng.choice(("--dataset", "--model", "--output", "--class_weights", "--preset", "--resume"))] = value
    return "trainer.train", [word for pair in given.items() for word in pair], {}


def _study(attempt: Attempt, secret: str) -> _Planted:
    """A search whose database does not answer."""
    address = f"postgresql+psycopg://ann:{attempt.rng.choice(('', 'a/'))}{secret}@127.0.0.1:1/db"
    return "tuning.tune", [*attempt.templates.training, "--trials", 1], {"OPTUNA_STORAGE": address}


def _promote(attempt: Attempt, _secret: str) -> _Planted:
    """A promotion with the real check of the model."""
    champions = attempt.templates.champions
    copy_place(champions.folder, attempt.folder)
    return "registry.promote", ["--run_id", champions.run_ids[2]], {}


_COMMANDS = (_train_on_server, _no_server, _no_server, _setting, _setting, _study)

ATTACKS = (
    Attack("secrets/commands", command, (HIDDEN, NO_ARGUMENT, READABLE), 2),
    Attack("secrets/promote", promote, (HIDDEN, NO_ARGUMENT, NO_VARIABLE, READABLE), 1),
)
