"""Who won the finals, in sentences that claim no more than the seeds allow."""

from collections.abc import Iterator, Sequence

from tuning.analysis.narrative import count
from tuning.finals.statistics import Standing, paired_difference

__all__ = ["verdict"]


def verdict(standings: Sequence[Standing]) -> Iterator[str]:
    """Say which setting leads, whether by more than noise, and what is missing. standings: as `rank` returns them."""
    ranked = [one for one in standings if one.mean is not None]
    if not standings:
        yield "No finals were run, so no setting has been tried on fresh seeds."
    elif not ranked:
        yield "No final run has a score."
    else:
        yield _lead(ranked[0])
        yield _against_second(ranked)
    for one in standings:
        if one.missing:
            seeds = f"{'seed' if len(one.missing) == 1 else 'seeds'} {', '.join(map(str, one.missing))}"
            yield f"Trial {one.setting}'s settings lack a score for {seeds}, so they stand after the complete ones."


def _lead(first: Standing) -> str:
    seeds = count(len(first.scores), "fresh seed")
    return f"Trial {first.setting}'s settings lead the finals with a mean of {first.mean:.4f} over {seeds}."


def _against_second(ranked: Sequence[Standing]) -> str:
    if len(ranked) == 1:
        return "No other setting has a score to compare with."
    first, second = ranked[:2]
    gap = paired_difference(first, second)
    if gap is None:
        return f"They share no seed with trial {second.setting}'s, the second, so the difference may be one of seeds."
    ahead = f"the second, trial {second.setting}'s, by {gap.mean:+.4f}"
    if gap.interval is None:
        return f"They differ from {ahead} on the one seed both have: one seed says nothing about noise."
    low, high = gap.interval
    on = f"on the same {len(gap.seeds)} seeds (95 % interval {low:+.4f} to {high:+.4f})"
    if gap.beyond_noise:
        return f"They differ from {ahead} {on}: more than noise between seeds explains."
    return f"They differ from {ahead} {on}: within the noise between seeds, so either may be the better one."
