"""Decisions for the tests of the decision log and of the aliases."""

import dataclasses
from functools import reduce

from registry.store.decision_log import Decision, RegistryState

MODEL = "emotions"


def decision(kind, version, parent, number=0, **more):
    return Decision(
        kind=kind, version=version, parent=parent, replaced=None, why="why", by="ann", run_id="r", number=number, **more
    )


def replay(decisions):
    """State after these decisions, which are in the order of their numbers."""
    return reduce(RegistryState.apply, decisions, RegistryState())


def add(log, kind, version, parent, **more):
    run_id = log._client.get_model_version(MODEL, "1").run_id
    return log.append(dataclasses.replace(decision(kind, version, parent, **more), run_id=run_id))
