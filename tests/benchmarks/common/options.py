"""Options of the command line that benchmarks read."""

from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Size of the measurements. None leaves a choice to the benchmark."""

    repetitions: int = 5
    quick: bool = False
    """Measure with smaller data where the full size takes more than some minutes."""
    model: str | None = None
    """Measure only this model, one of `MODELS` of the benchmark."""
    trials: int | None = None
    seeds: int | None = None
    workers: int | None = None
    folder: str | None = None
    """Folder of the searches, which are continued there. None deletes them after the measurement."""
