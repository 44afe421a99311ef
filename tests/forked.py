"""Functions in processes of their own, forked from one that has loaded the libraries: each would load them anew."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")  # which has no threads and no open database, as pytest has
_CONTEXT.set_forkserver_preload(
    [
        *(
            "registry.promotion.session",
            "trainer.pipeline",
            "transformers.models.bert.modeling_bert",
            "scipy.optimize",
        ),
        *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
        *("matplotlib.figure", "matplotlib.backends.backend_agg"),
    ]
)


def start(log, function, *arguments):
    """A process that ends with what `function` returns. It has this folder and environment, and writes to `log`."""
    given = (log, Path.cwd(), dict(os.environ), function, arguments)
    process = _CONTEXT.Process(target=_call, args=given, daemon=True)  # it ends with pytest
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(_ROOT), prepend=os.pathsep)  # the first call starts the one to fork from
        process.start()
    return process


def wait(process, seconds=120):
    """Exit status of a process; the negative number of a signal that ended it; None when it runs on."""
    process.join(seconds)
    return process.exitcode


def _call(log, folder, environment, function, arguments):
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    with log.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(function(*arguments))
