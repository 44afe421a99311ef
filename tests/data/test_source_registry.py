"""The table of data sources."""

import pytest

from trainer.core.errors import DataError
from trainer.data import sources
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES
from trainer.data.sources.source import locate

OFFICIAL = {"train__tsv": "hello\t0\ta\n", "dev__tsv": "hi\t0\tb\n", "test__tsv": "hey\t0\tc\n", "labels__txt": "joy"}
NAMED = {f"{role}__tsv": f"text\tlabels\na {role} text\tjoy\n" for role in ROLES}
SEMEVAL = {f"2018-E-c-En-{role}.txt": f"ID\tTweet\tjoy\na\ta {role} text\t1\n" for role in ROLES}


def recognising(config):
    location = locate(config)
    return next((name for name, source in sources.SOURCES.items() if source.recognises(location)), None)


@pytest.mark.parametrize(
    ("files", "name"),
    [(OFFICIAL, "goemotions"), (NAMED, "files"), (SEMEVAL, "semeval2018"), ({"simplified-train.parquet": b""}, "hub")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_folder_is_read_by_the_source_of_its_layout(write, files, name):
    folder = write(**files)
    assert recognising(DataConfig(dataset=str(folder))) == name
    if name != "hub":
        data = sources.load(DataConfig(dataset=str(folder)), seed=0)
        assert (data.name, data.source, data.label_names) == ("mine", str(folder), ("joy",))


@pytest.mark.parametrize(
    ("dataset", "name"), [("starter", "starter"), ("owner/name", "hub"), ("owner/name:config", "hub"), ("x", None)]
)
def test_other_data_sets_are_recognised_by_their_name(dataset, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recognising(DataConfig(dataset=dataset)) == name


def test_a_new_source_is_one_entry(monkeypatch):
    class Memory:
        """A source without files."""

        @staticmethod
        def recognises(location):
            return location.config.dataset == "memory"

        @staticmethod
        def read(location, errors):
            if location.config.dataset_revision == "bad":
                errors.add("memory:1", "is bad")
            return sources.starter.read(location, errors)

    monkeypatch.setitem(sources.SOURCES, "memory", Memory)
    assert len(sources.load(DataConfig(dataset="memory"), seed=0).test) == 224
    with pytest.raises(DataError, match=r"1 faulty row.*\n.*memory:1: is bad"):
        sources.load(DataConfig(dataset="memory", dataset_revision="bad"), seed=0)
