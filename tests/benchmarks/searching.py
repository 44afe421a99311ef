"""How much training a search saves by pruning, what its driver costs a trial, and what a second worker gives."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.benchmarks import materials
from tests.benchmarks.measure import Row, Table, alternate
from tests.benchmarks.searched import search
from trainer.core.environment import available_cores

__all__ = ["MATERIALS", "measure"]

MATERIALS = {"starter": 24, "MiniLM": 16}
"""What is searched on → trials of a search."""
_SEEDS = 3
_QUICK_TRIALS, _QUICK_SEEDS = 4, 1
_SHARED_TRIALS = 8  # of the searches with one worker and with several
_ROWS = 10_000
_CONTENDERS = {
    "ours": {"sampler": "tpe", "pruner": "hyperband"},
    "unpruned": {"sampler": "tpe", "pruner": "none"},
    "random": {"sampler": "random", "pruner": "none"},
}
_AIMS = {"unpruned": 1 / 3, "random": None}
"""Reference → the share of its trainer-seconds in which ours should have its score."""
_PARTS = {
    "suggesting": "asking storage and sampler, waiting for the driver",
    "starting": "making the run and starting the process",
    "ending": "delivering to the store and ending the process",
    "closing": "closing the run and telling the storage",
}


def measure(_repetitions, *, quick=False, material=None, trials=None, seeds=None, workers=None, folder=None):
    """Yield tables for the starter, and for MiniLM where it is at hand: efficiency, cost of the driver, workers.

    quick: few trials with one seed, on the starter unless `material` says otherwise. folder: what is kept there is
    continued, so that a measurement may be stopped; without one everything is deleted at the end.
    """
    seeds = range(1, 1 + (seeds or (_QUICK_SEEDS if quick else _SEEDS)))
    workers = workers or min(2, len(available_cores()))
    kept = nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="emotions-bench-")
    with kept as place:
        for name in [material] if material else ["starter"] if quick else MATERIALS:
            settings = _settings(name)
            if settings is None:
                yield Table(title=f"searching: {name}", note=materials.MISSING)
                continue
            count = trials or (_QUICK_TRIALS if quick else MATERIALS[name])
            searches = _Searches(name=name, settings=settings, place=Path(place).resolve(), seeds=seeds)
            yield from _tables(searches, count, workers)


@dataclass(frozen=True, kw_only=True)
class _Searches:
    """Searches on one material with some seeds, each in a folder below `place` that says what it is."""

    name: str
    settings: Mapping[str, object]
    place: Path
    seeds: Sequence[int]

    def by_seed(self, contender, trials, workers):
        """A function whose calls return the searches of one seed after the other."""
        folder = self.place / f"{self.name}-{trials}-trials-{workers}-workers"
        settings = {"workers": workers, **self.settings, **_CONTENDERS[contender]}
        return partial(
            next, (search(folder / f"{contender}-{seed}", trials, seed=seed, **settings) for seed in self.seeds)
        )


def _settings(material):
    if material == "starter":
        return {"preset": "starter"}
    data, model = materials.goemotions(), materials.minilm()
    if data is None or model is None:
        return None
    return {"preset": "goemotions-minilm", "dataset": data, "model": model, "max_train_rows": _ROWS}


def _tables(searches, trials, workers):
    name, repetitions = searches.name, len(searches.seeds)
    found = alternate({one: searches.by_seed(one, trials, workers) for one in _CONTENDERS}, repetitions)
    size = f"{trials} trials, {workers} worker(s), {repetitions} seed(s)"
    yield _efficiency(f"searching: {name}, {size}", found)
    yield _costs(f"searching: {name}, cost of the driver, {size}", found["ours"], workers)
    title = f"searching: {name}, {workers} worker(s), reference: one"
    if workers == 1:
        yield Table(title=title, note="not measured: it needs two workers, and two cores for them")
        return
    few = min(trials, _SHARED_TRIALS)
    shared = {count: searches.by_seed("random", few, count) for count in (workers, 1)}
    yield _scaling(title, alternate(shared, repetitions), workers)


def _efficiency(title, found):
    ours, rows = found["ours"], []
    for name, aim in _AIMS.items():
        pairs = list(zip(ours, found[name], strict=True))
        best = {"ours": [mine.best for mine, _ in pairs], "reference": [other.best for _, other in pairs]}
        spent = {key: [pair[at].trainer_seconds for pair in pairs] for at, key in enumerate(("ours", "reference"))}
        reached = [mine.seconds_to(other.best) for mine, other in pairs]
        shares = [mine / other for mine, other in zip(reached, spent["reference"], strict=True)]
        itself = [other.seconds_to(other.best) / other.trainer_seconds for _, other in pairs]
        rows += [
            Row(measure=f"best dev macro F1 in the end, reference: {name}", **best, more_is_better=True),
            Row(measure=f"trainer-seconds in all, reference: {name}", **spent),
            Row(measure=f"trainer-seconds to the score of {name}", ours=reached),
            Row(measure=f"share of all trainer-seconds of {name}", ours=shares, below=aim),
            Row(measure=f"share that {name} needed of its own", ours=itself),
        ]
    rows.append(Row(measure="trials pruned", ours=[one.pruned for one in ours]))
    cut_off = sum(one.cut_off for each in found.values() for one in each)
    note = (
        "ours: tpe and hyperband; unpruned: tpe; random: neither. Trainer-seconds are those of all trainings of a "
        "search, added up; a seed is that of sampler and trainings. A share is of the reference's trainer-seconds at "
        "its end, until a training of ours has ended with at least its best score. Dev is evaluated more often where "
        "a pruner looks, and the best weights are chosen among so many; that is part of both cost and score. "
        f"Trainings that were cut off and continued: {cut_off}; of those killed, the seconds before are not counted"
    )
    return Table(title=title, rows=tuple(rows), note=note)


def _costs(title, searches, workers):
    costs = [search.costs() for search in searches]
    shares = [100 * sum(one["beside"] for one in each) / sum(one["whole"] for one in each) for each in costs]
    trials = [one for each in costs for one in each]
    first = [one["beside"] for one in trials if one["number"] < workers]
    later = [one for one in trials if one["number"] >= workers]
    rows = []
    if later:
        rows += [
            Row(measure="seconds beside training, a trial", ours=[one["beside"] for one in later], below=5),
            *(Row(measure=f"- {words}", ours=[one[part] for one in later]) for part, words in _PARTS.items()),
            Row(measure="seconds of a trial", ours=[one["whole"] for one in later]),
        ]
    if first:
        rows.append(Row(measure="seconds beside training, first trials", ours=first))
    rows.append(Row(measure="share of a search's trials, %", ours=shares))
    note = (
        "a training is from the first to the last entry that it records itself; the first trials of the workers wait "
        "until the libraries are loaded, and are in the last two rows alone. The parts are good to 0.2 s"
    )
    return Table(title=title, rows=tuple(rows), note=note)


def _scaling(title, found, workers):
    rates = {count: [one.trials_per_hour for one in each] for count, each in found.items()}
    pairs = [pair for pair in zip(rates[workers], rates[1], strict=True) if None not in pair]
    note = "random search without pruning, so that both train the same; a search that was interrupted is left out"
    if not pairs:
        return Table(title=title, note=f"not measured: {note}")
    ours, reference = map(list, zip(*pairs, strict=True))
    aim = 1.6 if workers == 2 else None
    row = Row(measure="trials/hour", ours=ours, reference=reference, more_is_better=True, at_least=aim)
    return Table(title=title, rows=(row,), note=note)
