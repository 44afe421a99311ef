"""What a search has shown, in sentences. Each is computed from the study; what is not known is not said."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import optuna
from optuna.trial import FrozenTrial, TrialState

from tuning.analysis.importance import Importance
from tuning.analysis.ranges import Region
from tuning.finals.statistics import Standing
from tuning.study import trials

__all__ = ["best", "common_cause", "count", "duration", "edges", "failures", "listed", "mattered", "searched", "spent"]

_NUM_NAMED = 4


def searched(study: optuna.Study, label: str) -> str:
    """Say what was searched, for which objective and how. The study must carry the sampler and pruner it ran with."""
    names = {name for trial in trials.counted(study) for name in trial.params}
    kinds = trials.losses(study)
    over = f" over {count(len(kinds), 'loss', 'losses')} ({', '.join(kinds)})" if kinds else ""
    others = len(study.directions) - 1
    beside = f" and {count(others, 'other objective')}" if others else ""
    return (
        f"Searched {count(len(names), 'parameter')}{over} for the highest {label}{beside}, "
        f"with {type(study.sampler).__name__} and {type(study.pruner).__name__}."
    )


def spent(study: optuna.Study) -> Iterator[str]:
    """Say how many trials ended how, what their training took, and about what pruning saved."""
    states = Counter(trials.state(trial) for trial in study.get_trials(deepcopy=False))
    again = states.pop(trials.REQUEUED, 0)
    ends = [f"{states[name]} {name}" for name in ("complete", "pruned", "failed", "running", "waiting") if states[name]]
    yield f"{count(states.total(), 'trial')}{': ' if ends else ''}{', '.join(ends)}."
    if again:
        yield f"Not counted: {count(again, 'trial')} that had to be queued again."
    found = trials.counted(study)
    known = [taken for trial in found if (taken := trials.seconds(trial)) is not None]
    if known:
        part = "" if len(known) == len(found) else f" (known for {len(known)} of {len(found)} trials)"
        saved = _saved(found)
        end = "" if saved is None else f"; pruning saved about {duration(saved)} more"
        yield f"Training took {duration(math.fsum(known))} in all{part}{end}."


def best(study: optuna.Study, label: str, standings: Sequence[Standing] = ()) -> Iterator[str]:
    """Say which trial is the best, by how much it beats the starting settings, and how far to believe it."""
    found = trials.scored(study)
    if not found:
        yield "No trial is complete yet, so there is no best one."
        return
    top = found[0]
    first = "By the first objective, trial" if len(study.directions) > 1 else "Trial"
    yield f"{first} {top.number} is the best: {label} {trials.score(top):.4f}{_gain(study, top)}."
    if len(study.directions) > 1:
        front = sorted(trial.number for trial in trials.copy_study(study, objectives=len(study.directions)).best_trials)
        yield f"No other trial beats these in every objective: {listed(front)}."
    if len(found) > 1:
        yield _optimism(top, len(found), standings)


def mattered(found: Sequence[Importance]) -> Iterator[str]:
    """Say which parameters had most to do with being among the best trials, or why that cannot be told."""
    for one in found:
        where = "" if one.loss is None else f" among the trials with {one.loss}"
        shares = ", ".join(f"{name} ({100 * share:.0f} %)" for name, share in list(one.shares.items())[:_NUM_NAMED])
        if shares:
            yield f"What mattered most{where}: {shares}."
        else:
            yield f"What mattered most{where} cannot be told: {one.reason}."
        if one.loss is None and not shares:
            return  # nor can it within a loss


def edges(found: Sequence[Region]) -> Iterator[str]:
    """Name the parameters whose best value lies at an end of what was searched."""
    for one in found:
        if one.edge:
            where = f"the {one.edge} edge of its range ({one.searched})"
            yield f"The best {one.name}, {one.best}, lies at {where}: widen it."


def failures(study: optuna.Study) -> Mapping[str, list[int]]:
    """Return cause to the numbers of the trials that failed by it, the most frequent first."""
    causes: dict[str, list[int]] = defaultdict(list)
    for trial in trials.counted(study):
        if trial.state == TrialState.FAIL:
            causes[str(trial.user_attrs[trials.Attribute.CAUSE])].append(trial.number)
    return dict(sorted(causes.items(), key=lambda item: -len(item[1])))


def common_cause(causes: Mapping[str, int]) -> str:
    """Return, of causes and how many trials failed by each, the most frequent one in a sentence; empty for none."""
    if not causes:
        return ""
    cause, number = max(causes.items(), key=lambda item: item[1])
    return f"{number} of {sum(causes.values())} failed with: {cause.rstrip('.')}. "


def duration(seconds: float) -> str:
    """Return the time as people say it: `45 s`, `12 min`, `3 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def count(number: int, one: str, many: str = "") -> str:
    """Return `1 trial` or `2 trials`; many: for words that take no s."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def listed(numbers: Sequence[int]) -> str:
    """Return `trial 3` or `trials 3, 5, 8`, cut after twelve."""
    shown = ", ".join(map(str, numbers[:12]))
    return f"{'trial' if len(numbers) == 1 else 'trials'} {shown}{', …' * (len(numbers) > 12)}"


def _gain(study: optuna.Study, top: FrozenTrial) -> str:
    start = next((trial for trial in trials.counted(study) if trial.user_attrs.get(trials.Attribute.WARM_START)), None)
    if start is None:
        return ""
    found = trials.scored(study)
    if start.number == top.number:
        return f", with the starting settings{': no other trial beat them' if len(found) > 1 else ''}"
    if start not in found:
        return f"; the starting settings (trial {start.number}, {trials.state(start)}) have no score to compare it with"
    gain = trials.score(top) - trials.score(start)
    return f", {gain:.4f} better than the starting settings (trial {start.number}: {trials.score(start):.4f})"


def _optimism(top: FrozenTrial, number: int, standings: Sequence[Standing]) -> str:
    text = f"It was picked as the best of {number}, so luck was picked with it."
    final = next((one for one in standings if one.setting == top.number and one.mean is not None), None)
    if final is None or final.mean is None:
        return f"{text} The mean over fresh seeds in the finals is the honest one; there is none for this trial."
    seeds = count(len(final.scores), "fresh seed")
    gap = final.mean - trials.score(top)
    return f"{text} The honest one is the mean of the finals: {final.mean:.4f} over {seeds} ({gap:+.4f})."


def _saved(found: Sequence[FrozenTrial]) -> float | None:
    """Seconds that pruned trials would have gone on at their own speed; None where it is not known."""
    complete = [len(trial.intermediate_values) for trial in found if trial.state == TrialState.COMPLETE]
    pruned = [
        (taken, len(trial.intermediate_values))
        for trial in found
        if trial.state == TrialState.PRUNED and trial.intermediate_values
        if (taken := trials.seconds(trial)) is not None
    ]
    if not complete or not pruned:
        return None
    return math.fsum(taken * max(median(complete) / reports - 1, 0.0) for taken, reports in pruned)
