"""Optuna's sampler for the settings of a search."""

import warnings

import optuna

from tuning.config import SearchConfig

__all__ = ["make_sampler", "startup_trials"]

_MAX_STARTUP = 10
"""Optuna's default for TPE."""


def startup_trials(trials: int, workers: int) -> int:
    """Return how many trials must have ended before TPE models the scores.

    A third of the trials are random, or at most ten; trials that other workers run meanwhile are random too.
    """
    return max(min(trials // 3, _MAX_STARTUP) + 1 - workers, 1)


def make_sampler(config: SearchConfig, seed: int | None, workers: int = 1) -> optuna.samplers.BaseSampler:
    """Return the sampler; without a seed it draws other numbers each time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.sampler == "tpe":
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=startup_trials(config.trials, workers),
                multivariate=True,  # `group` needs it
                group=True,  # models the settings of each loss apart
                constant_liar=True,  # workers do not suggest the same settings
            )
        if config.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        if config.sampler == "cmaes":
            # CMA-ES cannot model choices: these are random.
            return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)  # with sampler=grid every point waits in the study
