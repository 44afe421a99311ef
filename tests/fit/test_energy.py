"""Energy is counted from the machine's counters, and a device without one stays absent."""

import pytest
import torch

from trainer.fit.energy import EnergyMeter, add_energy

CPU = torch.device("cpu")


def write(folder, **microjoules):
    for zone, value in microjoules.items():
        path = folder / zone.replace("_", ":").replace("rapl", "intel-rapl")
        path.mkdir(exist_ok=True)
        (path / "energy_uj").write_text(f"{value}\n")
        (path / "max_energy_range_uj").write_text("9000000\n")


def test_packages_are_added_and_a_counter_may_start_again(tmp_path):
    write(tmp_path, rapl_0=1_000_000, rapl_1=8_000_000, rapl_0_0=5)
    meter = EnergyMeter(CPU, with_processor=True, powercap=tmp_path)
    write(tmp_path, rapl_0=3_000_000, rapl_1=1_000_000, rapl_0_0=7_000_000)
    assert meter.lap() == {"processor": pytest.approx(2.0 + 2.0)}
    assert meter.lap() == {"processor": 0.0}


def test_a_device_that_cannot_be_read_is_absent(tmp_path):
    assert EnergyMeter(CPU, with_processor=True, powercap=tmp_path / "none").lap() == {}
    write(tmp_path, rapl_0=1_000_000, rapl_1=2_000_000)
    (tmp_path / "intel-rapl:1" / "energy_uj").unlink()
    assert EnergyMeter(CPU, with_processor=True, powercap=tmp_path).lap() == {}
    assert EnergyMeter(CPU, with_processor=False, powercap=tmp_path).lap() == {}


def test_laps_of_processes_are_added():
    first = add_energy(None, [{"gpu": 5.0, "processor": 3.0}, {"gpu": 4.0}])
    assert first == {"gpu": 9.0, "processor": 3.0}
    assert add_energy(first, [{"gpu": 1.0}, {"gpu": 1.0}]) == {"gpu": 11.0}
    assert add_energy({}, [{"gpu": 1.0}]) == {}
