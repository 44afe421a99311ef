"""The energy that a training takes, where the machine has counters that this process may read."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

__all__ = ["EnergyMeter", "add_energy"]

GPU, PROCESSOR = "gpu", "processor"
_POWERCAP = Path("/sys/class/powercap")  # RAPL of Intel and AMD; most systems let only root read the counters


class EnergyMeter:
    """Joules since the last reading, of the GPU of one process and of the processors of its machine.

    The counters are those of the whole device: other programs on it count too.
    """

    def __init__(self, device: torch.device, *, with_processor: bool, powercap: Path = _POWERCAP) -> None:
        self._device = device
        self._zones = sorted(powercap.glob("intel-rapl:[0-9]*")) if with_processor else []
        self._zones = [zone for zone in self._zones if zone.name.count(":") == 1]  # the others are parts of these
        self._last = self._read()

    def lap(self) -> dict[str, float]:
        """Return device to joules since the last call; a device without a readable counter is absent."""
        before, self._last = self._last, self._read()
        gone = {name: self._last[name] - before[name] for name in self._last.keys() & before.keys()}
        # A processor's counter starts again at 0 after its largest value.
        gone = {name: joules if joules >= 0 else joules + self._range(name) for name, joules in gone.items()}
        processors = [joules for name, joules in gone.items() if name != GPU]
        return {name: gone[name] for name in gone if name == GPU} | (
            {PROCESSOR: sum(processors)} if processors and len(processors) == len(self._zones) else {}
        )

    def _read(self) -> dict[str, float]:
        found = {GPU: joules} if (joules := _gpu_joules(self._device)) is not None else {}
        for zone in self._zones:
            with contextlib.suppress(OSError, ValueError):  # no permission, or a machine without the counter
                found[zone.name] = int((zone / "energy_uj").read_text()) / 1e6
        return found

    def _range(self, zone: str) -> float:
        path = next(one for one in self._zones if one.name == zone)
        return int((path / "max_energy_range_uj").read_text()) / 1e6


def add_energy(known: Mapping[str, float] | None, laps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of joules by device over the laps of all processes, added to the known ones.

    known: None before the first lap. A device that one lap lacks is left out from then on: its sum would be too low.
    """
    total = {
        GPU: sum(lap[GPU] for lap in laps) if all(GPU in lap for lap in laps) else None,
        PROCESSOR: laps[0].get(PROCESSOR),  # that of the first process; the others leave it out
    }
    return {
        name: joules + (known or {}).get(name, 0.0)
        for name, joules in total.items()
        if joules is not None and (known is None or name in known)
    }


def _gpu_joules(device: torch.device) -> float | None:
    """Return the counter of a CUDA device since its driver was loaded; None for another device, or without one."""
    if device.type != "cuda":
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(device)
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")  # CUDA numbers only the visible ones
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except pynvml.NVMLError:  # older than Volta, a part of a GPU, or no right to read it
        return None
