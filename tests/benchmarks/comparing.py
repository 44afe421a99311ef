"""Comparison of systems: speed against a plain numpy loop, and how often it finds differences of equal systems.

The systems are simulated on labels at the frequencies of GoEmotions' test split. A training seed moves the recalls and
false positive rates of a run.
"""

from dataclasses import replace
from timeit import timeit

import numpy as np
from scipy.special import expit, logit, ndtri, stdtrit

from tests.benchmarks.common.processes import alternate
from tests.benchmarks.common.tables import Row, Table
from tests.benchmarks.intervals import Population
from trainer.evaluation.comparison import System, compare_systems
from trainer.evaluation.paired import Estimate
from trainer.evaluation.resampling import Resampling

__all__ = ["loop", "measure", "shown", "simulate"]

_FEW = Resampling(num_resamples=300)
_LOOPED = 20  # resamples of the plain loop
_NOISES = ((1.0, 0.0, 0.0), (1.0, 0.15, 0.15), (1.0, 0.3, 0.3), (1.0, 1.0, 1.0), (0.3, 1.0, 0.5), (0.0, 1.0, 1.0))
"""Standard deviations of seeds, of examples that all seeds share, and of examples that they do not."""


def measure(options):
    """Yield the tables of speed, of the sources of noise, and of false positives and power."""
    yield _speed(options)
    yield _alternatives(2_000 if options.quick else 20_000)
    yield _size_and_power(20 if options.quick else 40 * options.repetitions)


def _speed(options):
    scores, systems = simulate(np.random.default_rng(0), Population.make(1), seeds=1, systems=5, examples=5427)
    num_resamples = 1_000 if options.quick else 10_000
    resampling = Resampling(num_resamples=num_resamples)
    planned = [(system.name, "0") for system in systems[1:]]
    names = {
        "ours": lambda: timeit(
            lambda: compare_systems(scores, systems, planned=planned, resampling=resampling), number=1
        ),
        "loop": lambda: timeit(lambda: loop(scores, systems, _LOOPED), number=1) * num_resamples / _LOOPED,
    }
    ours, reference = alternate(names, options.repetitions).values()
    title = f"comparing: 5 systems, 28 labels, 5,427 examples, {num_resamples:,} resamples, reference: numpy loop"
    rows = (
        Row(measure="seconds, all pairs with permutations; the loop only draws", ours=ours, reference=reference),
        Row(measure="seconds", ours=ours, below=20.0),
    )
    return Table(title=title, rows=rows)


def loop(scores, systems, num_resamples, seed=0):
    """Return macro F1 of each resample and system, (resamples, systems), one resample and one system at a time."""
    rng = np.random.default_rng(seed)
    found = np.empty((num_resamples, len(systems)))
    for row in found:
        drawn = rng.integers(scores.num_examples, size=scores.num_examples)
        truth = scores.positives[drawn]
        for place, system in enumerate(systems):
            predicted = system.predictions[0][drawn]
            hits, cells = (predicted & truth).sum(axis=0), predicted.sum(axis=0) + truth.sum(axis=0)
            row[place] = np.divide(2 * hits, cells, out=np.zeros(len(cells)), where=cells > 0).mean()
    return found


def _alternatives(samples):
    """Return how often a mean of 0 lies outside the 95 % interval over seeds and examples, the worst of _NOISES."""
    rows = []
    for seeds in (2, 3, 5):
        worst = {}
        for noises in _NOISES:
            for name, rate in _false_positives(seeds, noises, samples).items():
                worst[name] = max(worst.get(name, 0.0), rate)
        rows += [
            Row(measure=f"{name}, {seeds} seeds", ours=[rate], below=6 if name == "ours" else None)
            for name, rate in worst.items()
        ]
    note = "The largest of " + ", ".join(map(str, _NOISES)) + ": deviations of seeds, shared and unshared examples."
    return Table(title="comparing: % of means 0 outside the interval, normal noise", rows=tuple(rows), note=note)


def _false_positives(seeds, noises, samples):
    rng = np.random.default_rng(0)
    of_seeds, shared, unshared = noises
    by_seed = rng.normal(0, np.hypot(of_seeds, unshared), (samples, seeds)) + rng.normal(0, shared, (samples, 1))
    covariance = unshared**2 * np.eye(seeds) + shared**2
    examples, between = covariance.mean(), by_seed.var(axis=1, ddof=1) / seeds
    total = examples + between
    degrees = np.maximum(total**2 / (between**2 / (seeds - 1)), seeds - 1)
    ends = [Estimate.of(one, covariance, 10_000).interval(0.95) for one in by_seed[:5000]]
    halves = {
        "ours": np.array([(high - low) / 2 for low, high in ends]),
        "examples alone": 1.96 * np.sqrt(examples) * np.ones(samples),
        "seeds alone, Student's t": stdtrit(seeds - 1, 0.975) * np.sqrt(between),
        "Satterthwaite's degrees of freedom": stdtrit(degrees, 0.975) * np.sqrt(total),
        "seeds and examples resampled": ndtri(0.975) * np.sqrt(examples + between * (seeds - 1) / seeds),
        "the same, variance times S / (S - 1)": ndtri(0.975) * np.sqrt(total),
    }
    means = np.abs(by_seed.mean(axis=1))
    return {name: 100 * float(np.mean(means[: len(half)] > half)) for name, half in halves.items()}


def _size_and_power(samples):
    rows = []
    for seeds in (1, 3):
        for examples in (500, 5427):
            equal = shown(seeds, examples, samples)
            better = shown(seeds, examples, samples, gain=0.35)
            label = f"{seeds} seed{'s' * (seeds > 1)}, n = {examples:,}"
            rows += [
                Row(measure=f"equal systems: p < 0.05, {label}", ours=[equal["pair"]], below=7),
                Row(measure=f"equal systems: permutation p < 0.05, {label}", ours=[equal["permutation"]]),
                Row(measure=f"equal systems: a label's corrected p < 0.05, {label}", ours=[equal["label"]], below=7),
                Row(measure=f"better system: p < 0.05, {label}", ours=[better["pair"]]),
                Row(measure=f"better system: difference inside its interval, {label}", ours=[better["covered"]]),
            ]
    return Table(title=f"comparing: % of {samples} simulated comparisons", rows=tuple(rows))


def shown(seeds, examples, samples, *, gain=0.0, resampling=_FEW):
    """Return the percentages of comparisons that show a difference. gain: of the first system, in logits of recall."""
    base = Population.make(1)
    better = replace(base, recalls=expit(logit(base.recalls) + gain))
    rng = np.random.default_rng(0)
    found = {"pair": [], "permutation": [], "label": [], "covered": []}
    noise = 0.0 if seeds == 1 else 0.15  # of one seed, the interval says nothing about other seeds
    truth = np.mean([_f1(better, rng, noise) - _f1(base, rng, noise) for _ in range(400)]) if gain else 0.0
    for _ in range(samples):
        scores, (second,) = simulate(rng, base, seeds=seeds, systems=1, examples=examples, noise=noise)
        first = _system("better", rng, better, scores, seeds, noise)
        (pair,) = compare_systems(scores, [first, second], planned=[("better", "0")], resampling=resampling).pairs
        found["pair"].append(pair.p_value < 0.05)
        found["permutation"].append(pair.p_permutation < 0.05)
        found["label"].append(any(one is not None and one.p_corrected < 0.05 for one in pair.per_label))
        found["covered"].append(pair.low <= truth <= pair.high)
    return {name: 100 * float(np.mean(values)) for name, values in found.items()}


def simulate(rng, population, *, seeds, systems, examples, noise=0.15):
    """Return the labels of a sample as scores, and systems that are equal but for their seeds."""
    scores, _ = population.sample(rng, examples)
    return scores, [_system(str(number), rng, population, scores, seeds, noise) for number in range(systems)]


def _system(name, rng, population, scores, seeds, noise):
    runs = {seed: _moved(population, rng, noise).predict(rng, scores.positives) for seed in range(seeds)}
    return System(name=name, predictions=runs)


def _moved(population, rng, noise):
    """Return the population of one training: rates moved together and by label, on the scale of logits."""

    def move(rates):
        return expit(logit(rates) + rng.normal(0, noise) + rng.normal(0, 2 * noise, len(rates)))

    return replace(
        population, recalls=move(population.recalls), false_positive_rates=move(population.false_positive_rates)
    )


def _f1(population, rng, noise):
    return _moved(population, rng, noise).f1.mean()
