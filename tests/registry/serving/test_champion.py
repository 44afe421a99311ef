"""Which version is served, and why another one is not."""

import pytest
from served_models import champion

from registry.serving import champion as module
from trainer.core.errors import ModelError


class Loader:
    """Loads any version but the broken ones; `sources` has all that were asked for."""

    def __init__(self):
        self.sources, self.broken = [], set()

    def __call__(self, source, precision):
        self.sources.append(source)
        if source in self.broken:
            raise ModelError(f"Cannot load model {source}: damaged.")
        return source, ""


@pytest.fixture
def load():
    return Loader()


def test_the_version_with_the_alias_is_loaded_once(client, load):
    served = champion(load)

    served.look()
    served.look()

    assert (served.served.version, served.problem, load.sources) == (1, "", ["models:/emotions/1"])


def test_another_version_replaces_it(client, load):
    served = champion(load)
    served.look()

    client.set_registered_model_alias("emotions", "champion", "3")
    served.look()

    assert (served.served.version, served.served.model, served.loads) == (3, "models:/emotions/3", 2)


def test_a_version_that_cannot_be_loaded_leaves_the_present_one(client, load):
    served = champion(load)
    served.look()
    load.broken = {"models:/emotions/2"}
    client.set_registered_model_alias("emotions", "champion", "2")

    served.look()

    assert served.served.version == 1
    assert "emotions/2" in served.problem
    assert (served.loads, served.failed_loads) == (1, 1)


def test_a_broken_version_is_not_downloaded_at_every_look(client, load, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    load.broken = {"models:/emotions/1"}
    served = champion(load, poll_seconds=20)
    served.look(asked=False)

    tries = []
    for now[0] in range(20, 2020, 20):
        served.look(asked=False)
        tries.append(len(load.sources))

    assert tries[0] == 2  # an artifact store may have been away for a moment
    assert tries[-1] < 12
    assert "damaged" in served.problem
    served.look()  # asked: a webhook has come
    assert len(load.sources) == tries[-1] + 1


def test_a_good_version_after_a_broken_one_is_loaded_at_the_next_look(client, load):
    load.broken = {"models:/emotions/1"}
    served = champion(load)
    served.look()
    client.set_registered_model_alias("emotions", "champion", "2")

    served.look(asked=False)

    assert (served.served.version, served.problem) == (2, "")


def test_without_a_champion_it_waits(client, load):
    client.delete_registered_model_alias("emotions", "champion")
    served = champion(load)

    served.look()

    assert served.served is None
    assert "no alias `champion`" in served.problem


@pytest.mark.parametrize("model", ["emotions", "never registered"])
def test_a_removed_alias_or_model_leaves_the_present_version(client, load, model):
    served = champion(load)
    served.look()
    client.delete_registered_model_alias("emotions", "champion")
    served.name = model

    served.look()

    assert served.served.version == 1
    assert model in served.problem


def test_a_tracking_server_that_is_away_leaves_the_present_version(client, load, monkeypatch):
    served = champion(load)
    served.look()
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_aliases", lambda *_: (_ for _ in ()).throw(ConnectionError("refused")))
        served.look()
        assert served.served.version == 1
        assert "refused" in served.problem

    served.look()

    assert served.problem == ""
