"""Sentences about a search and its finals, each computed from the study; what the study cannot tell is left out."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.analysis.importance import MIN_TRIALS, Importance
from tuning.analysis.ranges import ParameterRange
from tuning.finals.statistics import SeedSummary, paired_difference
from tuning.study import trials

__all__ = [
    "count",
    "describe_best",
    "describe_edges",
    "describe_effort",
    "describe_finals",
    "describe_importance",
    "describe_limits",
    "describe_search",
    "duration",
    "failures",
    "list_trials",
]

_NUM_NAMED = 4
_NUM_LISTED = 12


def describe_search(study: optuna.Study, objective: str) -> str:
    """Say what was searched, for which objective and how. The study must carry the sampler and pruner it ran with."""
    names = {name for trial in trials.counted(study) for name in trial.params}
    losses = trials.losses(study)
    over = f" over {count(len(losses), 'loss', 'losses')} ({', '.join(losses)})" if losses else ""
    others = len(study.directions) - 1
    second = f" and {count(others, 'other objective')}" if others else ""
    return (
        f"The search varied {count(len(names), 'parameter')}{over} for the highest {objective}{second}, "
        f"with {type(study.sampler).__name__} and {type(study.pruner).__name__}."
    )


def describe_effort(study: optuna.Study) -> Iterator[str]:
    """Say how many trials ended how, how long they trained, and about how much time pruning saved."""
    states = Counter(trials.state(trial) for trial in study.get_trials(deepcopy=False))
    requeued = states.pop(trials.REQUEUED, 0)
    ends = [f"{states[name]} {name}" for name in ("complete", "pruned", "failed", "running", "waiting") if states[name]]
    yield f"{count(states.total(), 'trial')}{': ' if ends else ''}{', '.join(ends)}."
    if requeued:
        yield f"Not counted: {count(requeued, 'trial')} that {'was' if requeued == 1 else 'were'} retried."
    counted = trials.counted(study)
    timed = [seconds for trial in counted if (seconds := trials.seconds(trial)) is not None]
    if timed:
        part = "" if len(timed) == len(counted) else f" (measured for {len(timed)} of {len(counted)} trials)"
        saved = _saved(counted)
        end = "" if saved is None else f"; pruning saved about {duration(saved)}"
        yield f"Training took {duration(math.fsum(timed))}{part}{end}."


def describe_best(study: optuna.Study, objective: str, summaries: Sequence[SeedSummary] = ()) -> Iterator[str]:
    """Say which trial is the best, by how much it beats the starting settings, and how optimistic its score is."""
    complete = trials.scored(study)
    if not complete:
        yield "No trial is complete, so there is no best one."
        return
    best = complete[0]
    first = "By the first objective, trial" if len(study.directions) > 1 else "Trial"
    yield f"{first} {best.number} is the best: {objective} {trials.score(best):.4f}{_gain(study, best)}."
    if len(study.directions) > 1:
        # Of a copy, which lacks trials that do not count and scores that are not finite.
        front = sorted(trial.number for trial in trials.copy_study(study, objectives=len(study.directions)).best_trials)
        yield f"No other trial beats {list_trials(front)} in every objective."
    if len(complete) > 1:
        yield _optimism(best, len(complete), summaries)


def describe_limits(study: optuna.Study) -> Iterator[str]:
    """Say what the report cannot tell, if too few trials are complete."""
    complete = len(trials.scored(study))
    if complete < MIN_TRIALS:
        yield (
            f"With {count(complete, 'complete trial')}, this report cannot tell which parameters matter or which "
            f"values are good; it needs {MIN_TRIALS}. Run the same command with more trials to continue the search."
        )


def describe_importance(found: Sequence[Importance]) -> Iterator[str]:
    """Name the most important parameters, or say why they cannot be told. Too few trials: see `describe_limits`."""
    if found[0].trials < MIN_TRIALS:
        return
    for one in found:
        where = "" if one.loss is None else f" among the trials with {one.loss}"
        top = list(one.fractions.items())[:_NUM_NAMED]
        if top:
            named = ", ".join(f"{name} ({100 * fraction:.0f} %)" for name, fraction in top)
            yield f"The most important parameters{where}: {named}."
        else:
            yield f"The most important parameters{where} cannot be told: {one.unavailable_because}."
        if one.loss is None and not top:
            return  # the reason is the same within each loss


def describe_edges(ranges: Sequence[ParameterRange]) -> Iterator[str]:
    """Name the parameters whose best value is at an edge of the searched range."""
    for one in ranges:
        if one.edge:
            yield f"The best {one.name}, {one.best}, is at the {one.edge} edge of its range ({one.searched}): widen it."


def describe_finals(summaries: Sequence[SeedSummary]) -> Iterator[str]:
    """Say which settings lead the finals, whether by more than noise, and what is missing.

    summaries: as `rank` returns them.
    """
    ranked = [one for one in summaries if one.mean is not None]
    if not summaries:
        yield "No finals were run, so no settings were trained with fresh seeds."
    elif not ranked:
        yield "No run of the finals has a score."
    else:
        seeds = count(len(ranked[0].scores), "fresh seed")
        yield f"The settings of trial {ranked[0].trial} lead the finals: mean {ranked[0].mean:.4f} over {seeds}."
        yield _against_second(ranked)
    for one in summaries:
        if one.missing:
            seeds = f"{'seed' if len(one.missing) == 1 else 'seeds'} {', '.join(map(str, one.missing))}"
            yield f"The settings of trial {one.trial} lack a score for {seeds}, so they rank after the complete ones."


def failures(study: optuna.Study) -> Mapping[str, list[int]]:
    """Return cause to the numbers of the trials that failed by it, the most frequent first."""
    causes: dict[str, list[int]] = defaultdict(list)
    for trial in trials.counted(study):
        if trial.state == TrialState.FAIL:
            causes[str(trials.cause(trial))].append(trial.number)
    return dict(sorted(causes.items(), key=lambda item: -len(item[1])))


def duration(seconds: float) -> str:
    """Return the time for people: `45 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def count(number: int, one: str, many: str = "") -> str:
    """Return `1 trial` or `2 trials`. many: the plural of a word that takes no s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def list_trials(numbers: Sequence[int]) -> str:
    """Return `trial 3` or `trials 3, 5, 8`, with at most twelve numbers."""
    shown = ", ".join(map(str, numbers[:_NUM_LISTED]))
    return f"{'trial' if len(numbers) == 1 else 'trials'} {shown}{', …' * (len(numbers) > _NUM_LISTED)}"


def _gain(study: optuna.Study, best: FrozenTrial) -> str:
    start = next((trial for trial in trials.counted(study) if trial.user_attrs.get(trials.Attribute.WARM_START)), None)
    if start is None:
        return ""
    complete = trials.scored(study)
    if start.number == best.number:
        return f", with the starting settings{'; no other trial beats them' if len(complete) > 1 else ''}"
    if start not in complete:
        return f"; the starting settings (trial {start.number}, {trials.state(start)}) have no score to compare it with"
    gain = trials.score(best) - trials.score(start)
    return f", {gain:.4f} better than the starting settings (trial {start.number}: {trials.score(start):.4f})"


def _optimism(best: FrozenTrial, number: int, summaries: Sequence[SeedSummary]) -> str:
    text = f"Its score is optimistic, because it is the best of {number}"
    final = next((one for one in summaries if one.trial == best.number and one.mean is not None), None)
    if final is None or final.mean is None:
        return f"{text}. The finals measure it again with fresh seeds; this trial has none."
    seeds = count(len(final.scores), "fresh seed")
    gap = final.mean - trials.score(best)
    change = f"{abs(gap):.4f} {'lower' if gap < 0 else 'higher'} than in the search"
    # Fresh seeds remove the luck of the seed, not that of the choice among trials on the same dev examples.
    return f"{text}: over {seeds} its settings reach {final.mean:.4f}, {change}. Both are on the same dev examples."


def _against_second(ranked: Sequence[SeedSummary]) -> str:
    if len(ranked) == 1:
        return "No other settings have a score to compare with."
    first, second = ranked[:2]
    gap = paired_difference(first, second)
    if gap is None:
        return f"They share no seed with trial {second.trial}, the second, so seeds may explain the difference."
    ahead = f"Their difference to the second, trial {second.trial}, is {gap.mean:+.4f}"
    if gap.interval is None:
        return f"{ahead} on the one seed that both have; one seed cannot show the noise."
    low, high = gap.interval
    on = f"on the same {len(gap.seeds)} seeds (95 % interval {low:+.4f} to {high:+.4f})"
    if gap.is_significant:
        return f"{ahead} {on}: more than the noise between seeds."
    return f"{ahead} {on}: within the noise between seeds, so either may be better."


def _saved(counted: Sequence[FrozenTrial]) -> float | None:
    """Return the seconds that pruned trials would have trained on at their own speed; None without data."""
    complete = [len(trial.intermediate_values) for trial in counted if trial.state == TrialState.COMPLETE]
    pruned = [
        (seconds, len(trial.intermediate_values))
        for trial in counted
        if trial.state == TrialState.PRUNED and trial.intermediate_values
        if (seconds := trials.seconds(trial)) is not None
    ]
    if not complete or not pruned:
        return None
    return math.fsum(seconds * max(median(complete) / reports - 1, 0.0) for seconds, reports in pruned)
