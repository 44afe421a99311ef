"""Made-up studies: scores from a formula, trials in every state, nothing trained."""

import math
from datetime import datetime, timedelta

import numpy as np
import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

SHARED = {
    "loss": CategoricalDistribution(["combined", "asl"]),
    "learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
    "dropout": FloatDistribution(0.0, 0.5),
    "layers": IntDistribution(1, 6),
}
OF_LOSS = {
    "combined": {"ratio": FloatDistribution(0.0, 1.0)},
    "asl": {"margin": FloatDistribution(0.0, 0.3), "gamma": FloatDistribution(0.0, 6.0)},
}
optuna.logging.set_verbosity(optuna.logging.WARNING)
START = datetime(2025, 3, 4, 5, 6, 7)


def make_study(*trials, directions=("maximize",), name="search"):
    study = optuna.create_study(
        study_name=name,
        directions=list(directions),
        sampler=optuna.samplers.TPESampler(seed=0),
        pruner=optuna.pruners.HyperbandPruner(),
    )
    study.add_trials(trials)
    return study


def make_trial(values=None, params=None, spaces=None, state=TrialState.COMPLETE, reports=(), place=0, **attrs):
    """values: one number or several. reports: values by epoch, from 1. place: of its start, in half-minutes."""
    params = {"learning_rate": 1e-4} if params is None else params
    if state == TrialState.FAIL:
        attrs.setdefault("cause", "it broke")  # one without was cut off
    spaces = spaces or {name: _space(name) for name in params}
    trial = create_trial(
        state=state,
        values=None if values is None else list(np.atleast_1d(values).astype(float)),
        params=params,
        distributions=spaces,
        intermediate_values=dict(enumerate(reports, start=1)),
        user_attrs=attrs,
    )
    if state != TrialState.WAITING:
        trial.datetime_start = START + timedelta(seconds=30 * place)
    if state.is_finished():
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=attrs.get("seconds", 20.0))
    return trial


def make_search(count=40, losses=("combined", "asl"), directions=("maximize",), seed=0, **more):
    """A search with trial 0 the shipped settings, every fifth pruned, every eleventh failed, the last one running."""
    random = np.random.default_rng(seed)
    trials = [_searched(place, count, losses, random, len(directions)) for place in range(count)]
    return make_study(*trials, directions=directions, **more)


def _searched(place, count, losses, random, objectives):
    params = _draw(random, str(random.choice(losses)))
    if place == 0:
        params |= {"learning_rate": 1e-4, "dropout": 0.1, "layers": 2}
    reports = [round(_score(params, random) * (1 - math.exp(-epoch)), 4) for epoch in range(1, 5)]
    facts = {"seconds": round(float(random.uniform(60, 120)), 1), "runs": {"42": f"{random.integers(2**60):016x}"}}
    if place == count - 1:
        return make_trial(None, params, state=TrialState.RUNNING, reports=reports[:1], place=place)
    if place % 5 == 3:
        facts["seconds"] /= 2
        return make_trial(None, params, state=TrialState.PRUNED, reports=reports[:2], place=place, **facts)
    if place % 11 == 10:
        cause = "CUDA out of memory" if place % 2 else "loss is not finite at step 40"
        return make_trial(None, params, state=TrialState.FAIL, place=place, cause=cause, **facts)
    values = [_score(params, random), facts["seconds"]][:objectives]
    start = {"warm_start": True} if place == 0 else {}
    return make_trial(values, params, reports=reports, place=place, **facts, **start)


def _draw(random, loss):
    spaces = {name: space for name, space in (SHARED | OF_LOSS[loss]).items() if name != "loss"}
    return {"loss": loss} | {name: _value(random, space) for name, space in spaces.items()}


def _value(random, space):
    if isinstance(space, IntDistribution):
        return int(random.integers(space.low, space.high + 1))
    if space.log:
        return float(np.exp(random.uniform(np.log(space.low), np.log(space.high))))
    return float(random.uniform(space.low, space.high))


def _score(params, random):
    bump = math.exp(-((math.log10(params["learning_rate"]) + 3.2) ** 2))
    return round(0.4 + 0.15 * bump - 0.05 * params["dropout"] + float(random.normal(0, 0.005)), 4)


def _space(name):
    return (SHARED | OF_LOSS["combined"] | OF_LOSS["asl"])[name]
