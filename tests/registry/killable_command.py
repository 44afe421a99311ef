"""A command of the registry for a separate process, which may be killed before one of its writes."""

import importlib
import os
import signal

from mlflow import MlflowClient
from registry_helpers import FINE

from registry.promotion import model_check

WRITES = (
    *("create_registered_model", "create_model_version", "set_model_version_tag", "delete_model_version_tag"),
    *("set_registered_model_alias", "delete_registered_model_alias"),
)


def main(kill_before, command, *arguments):
    """Exit status of a command. kill_before: the number of a write to the registry, from 1; 0 kills never.

    The process that checks a model is left out.
    """
    model_check.check_model = lambda *_: FINE
    count_writes(MlflowClient, lambda number: number == kill_before and os.kill(os.getpid(), signal.SIGKILL))
    return importlib.import_module(f"registry.{command}").main(arguments)


def count_writes(client_class, before):
    """Call `before` with the number of each write to the registry, ahead of it."""
    number = 0

    def counted(write):
        def call(*args, **more):
            nonlocal number
            number += 1
            before(number)
            return write(*args, **more)

        return call

    for name in WRITES:
        setattr(client_class, name, counted(getattr(client_class, name)))
