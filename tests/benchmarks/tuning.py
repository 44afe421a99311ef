"""Training seconds that pruning saves a search, overhead of a trial, and speed of several workers."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks.common import assets
from tests.benchmarks.common.processes import alternate
from tests.benchmarks.common.search_results import search
from tests.benchmarks.common.tables import Row, Table
from trainer.core.environment import available_cores

__all__ = ["MODELS", "measure"]

MODELS = {"starter": 24, "minilm": 16}
"""Model to the trials of a search."""
_SEEDS = 3
_QUICK_TRIALS, _QUICK_SEEDS, _QUICK_EXAMPLES = 4, 1, 300
_SCALING_TRIALS = 8
"""Trials of a search with one worker and with several."""
_MINILM_EXAMPLES = 10_000
_SEARCHES = {
    "ours": {"sampler": "tpe", "pruner": "hyperband"},
    "unpruned": {"sampler": "tpe", "pruner": "none"},
    "random": {"sampler": "random", "pruner": "none"},
}
_GOALS = {"unpruned": 1 / 3, "random": None}
"""Reference to the fraction of its training seconds in which ours should reach its best score."""
_PARTS = {
    "suggesting": "suggesting settings and creating the run",
    "starting": "starting the process",
    "ending": "last upload and end of the process",
    "closing": "closing the run and storing the score",
}


def measure(options):
    """Yield tables for the starter, and for MiniLM where it is available: efficiency, overhead, workers.

    A quick measurement has few trials with one seed and few examples, on the starter unless `options` chooses a model.
    It shows that everything works; its efficiency is not that of a real search.
    """
    seeds = range(1, 1 + (options.seeds or (_QUICK_SEEDS if options.quick else _SEEDS)))
    workers = options.workers or min(2, len(available_cores()))
    models = [options.model] if options.model else ["starter"] if options.quick else MODELS
    kept = nullcontext(options.folder) if options.folder else tempfile.TemporaryDirectory(prefix="emotions-bench-")
    with kept as folder:
        for model in models:
            settings = _settings(model, quick=options.quick)
            if settings is None:
                yield Table(title=f"tuning: {model}", note=assets.MISSING)
                continue
            trials = options.trials or (_QUICK_TRIALS if options.quick else MODELS[model])
            searches = _Searches(model=model, settings=settings, folder=Path(folder).resolve(), seeds=seeds)
            yield from _tables(searches, trials, workers)


@dataclass(frozen=True, kw_only=True)
class _Searches:
    """Searches for settings of one model with several seeds, each in a folder below `folder`."""

    model: str
    settings: Mapping[str, object]
    folder: Path
    seeds: Sequence[int]

    def by_seed(self, name, trials, workers):
        """Return a function whose calls return the results of one seed after the other."""
        folder = self.folder / f"{self.model}-{trials}-trials-{workers}-workers"
        settings = {"workers": workers, **self.settings, **_SEARCHES[name]}
        results = (search(folder / f"{name}-{seed}", trials, seed=seed, **settings) for seed in self.seeds)
        return partial(next, results)


def _settings(model, *, quick):
    if model == "starter":
        return {"preset": "starter", "max_train_rows": _QUICK_EXAMPLES if quick else 0}
    return assets.minilm_settings(_QUICK_EXAMPLES if quick else _MINILM_EXAMPLES)


def _tables(searches, trials, workers):
    model, repetitions = searches.model, len(searches.seeds)
    results = alternate({name: searches.by_seed(name, trials, workers) for name in _SEARCHES}, repetitions)
    size = f"{trials} trials, {workers} worker(s), {repetitions} seed(s)"
    yield _efficiency(f"tuning: {model}, {size}", results)
    yield _overhead(f"tuning: {model}, overhead of a trial, {size}", results["ours"], workers)
    title = f"tuning: {model}, {workers} worker(s), reference: one"
    if workers == 1:
        yield Table(title=title, note="not measured: it needs two workers on two cores")
        return
    few = min(trials, _SCALING_TRIALS)
    scaling = {count: searches.by_seed("random", few, count) for count in (workers, 1)}
    yield _scaling(title, alternate(scaling, repetitions), workers)


def _efficiency(title, results):
    ours = results["ours"]
    rows = [row for name, goal in _GOALS.items() for row in _comparison(name, ours, results[name], goal)]
    rows.append(Row(measure="trials pruned", ours=[one.num_pruned for one in ours]))
    interrupted = sum(one.num_interrupted for each in results.values() for one in each)
    note = (
        "ours: tpe and hyperband; unpruned: tpe; random: neither. Training seconds add up over the trials of a search; "
        "a seed is that of sampler and trainings. A fraction relates the training seconds until a trial of ours "
        "completes with the reference's best score to all training seconds of the reference. A pruned search evaluates "
        "dev more often and keeps the best of more weights, which is part of its cost and its score. Interrupted and "
        f"retried trials: {interrupted}; the last seconds of a killed training are not counted"
    )
    return Table(title=title, rows=tuple(rows), note=note)


def _comparison(name, ours, others, goal):
    pairs = list(zip(ours, others, strict=True))
    best = {"ours": [one.best for one in ours], "reference": [other.best for other in others]}
    spent = {
        "ours": [one.training_seconds for one in ours],
        "reference": [other.training_seconds for other in others],
    }
    reached = [one.seconds_to(other.best) for one, other in pairs]
    fractions = [seconds / other.training_seconds for seconds, other in zip(reached, others, strict=True)]
    own_fractions = [other.seconds_to(other.best) / other.training_seconds for other in others]
    return [
        Row(measure=f"best dev macro F1, reference: {name}", **best, more_is_better=True),
        Row(measure=f"training seconds, reference: {name}", **spent),
        Row(measure=f"training seconds to the best score of {name}", ours=reached),
        Row(measure=f"as a fraction of all training seconds of {name}", ours=fractions, below=goal),
        Row(measure=f"the fraction that {name} needs itself", ours=own_fractions),
    ]


def _overhead(title, searches, workers):
    times = [one.trial_times() for one in searches]
    percentages = [100 * sum(one["outside"] for one in each) / sum(one["all"] for one in each) for each in times]
    trials = [one for each in times for one in each]
    first = [one["outside"] for one in trials if one["number"] < workers]
    later = [one for one in trials if one["number"] >= workers]
    rows = []
    if later:
        rows += [
            Row(measure="seconds outside training, a trial", ours=[one["outside"] for one in later], below=5),
            *(Row(measure=f"- {words}", ours=[one[part] for one in later]) for part, words in _PARTS.items()),
            Row(measure="seconds of a trial", ours=[one["all"] for one in later]),
        ]
    if first:
        rows.append(Row(measure="seconds outside training, first trials", ours=first))
    rows.append(Row(measure="fraction of all trials, %", ours=percentages))
    note = (
        "a training lasts from its first to its last logged event; the first trial of each worker also loads libraries "
        "and is only in the last two rows. The parts are accurate to about 0.3 s"
    )
    return Table(title=title, rows=tuple(rows), note=note)


def _scaling(title, results, workers):
    rates = {count: [one.trials_per_hour for one in each] for count, each in results.items()}
    pairs = [pair for pair in zip(rates[workers], rates[1], strict=True) if None not in pair]
    note = "random search without pruning, so that both train the same trials; interrupted searches are left out"
    if not pairs:
        return Table(title=title, note=f"not measured: {note}")
    ours, reference = map(list, zip(*pairs, strict=True))
    goal = 1.6 if workers == 2 else None
    row = Row(measure="trials/hour", ours=ours, reference=reference, more_is_better=True, at_least=goal)
    return Table(title=title, rows=(row,), note=note)
