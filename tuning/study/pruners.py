"""Optuna's pruner for the settings of a search."""

import warnings

import optuna

from tuning.config import SearchConfig

__all__ = ["make_pruner"]


def make_pruner(config: SearchConfig) -> optuna.pruners.BasePruner:
    """Return the pruner, for scores at the steps 1 to `reports` of a training.

    It judges after a third of a training: warm-up may take a fifth, and the order before it says little about that at
    the end (docs/explanations/performance.md).
    """
    kind, first = config.active_pruner, max(config.reports // 3, 1)
    if kind == "hyperband":
        # Halves save more time than thirds, for about the same loss of score (same page).
        return optuna.pruners.HyperbandPruner(min_resource=first, max_resource=config.reports, reduction_factor=2)
    if kind == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=first)
    if kind == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
    if kind == "wilcoxon":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1)  # with less, more repeats would be needed
    return optuna.pruners.NopPruner()
