"""The hub's own loading code, on folders in the hub's layout."""

import shutil

import datasets
import pytest

from trainer.core.errors import DataError
from trainer.data.config import DataConfig
from trainer.data.dataset import ROLES
from trainer.data.sources import load

NAMES = ["joy", "anger", "sadness"]
CARD = """---
configs:
- config_name: simplified
  data_files:
{files}
- config_name: other
  data_files:
{files}
---
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def hub_folder(tmp_path, small_rows):
    """A folder as `hf download --repo-type dataset` leaves it, in the columns of go_emotions."""
    folder = tmp_path / "go_emotions"
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "labels": datasets.List(datasets.ClassLabel(names=NAMES)),
            "id": datasets.Value("string"),
        }
    )
    for role, part in small_rows.items():
        stem = "validation" if role == "dev" else role
        columns = {
            "text": [text for text, _ in part],
            "labels": [[NAMES.index(name) for name in labels] for _, labels in part],
            "id": [f"{role}{i}" for i in range(len(part))],
        }
        path = folder / "simplified" / f"{stem}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    return folder


def add_card(folder):
    files = "\n".join(f"  - split: {stem}\n    path: simplified/{stem}-*" for stem in ("train", "validation", "test"))
    (folder / "README.md").write_text(CARD.format(files=files))


def test_a_folder_in_hub_layout_is_read_with_its_names_and_ids(hub_folder, small_rows):
    data = load(DataConfig(dataset=str(hub_folder)), seed=0)
    assert data.label_names == tuple(NAMES)
    for role, part in small_rows.items():
        split = getattr(data, role)
        assert split.texts == tuple(text for text, _ in part)
        assert split.labels.tolist() == [[float(name in labels) for name in NAMES] for _, labels in part]
        assert split.example_ids == tuple(f"{role}{i}" for i in range(len(part)))
    assert (data.name, data.source) == ("go_emotions", str(hub_folder))


def test_a_config_follows_a_colon_and_is_required_where_there_are_several(hub_folder):
    add_card(hub_folder)
    assert load(DataConfig(dataset=f"{hub_folder}:simplified"), seed=0).train.example_ids[0] == "train0"
    with pytest.raises(DataError, match=r"(?s)config default.*simplified.*owner/name:config"):
        load(DataConfig(dataset=str(hub_folder)), seed=0)
    with pytest.raises(DataError, match="config nope"):
        load(DataConfig(dataset=f"{hub_folder}:nope"), seed=0)


def test_a_missing_split_is_named(hub_folder):
    (hub_folder / "simplified" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(DataError, match="no split for test, only train, validation"):
        load(DataConfig(dataset=str(hub_folder)), seed=0)


def test_a_hub_id_is_loaded_with_its_config_and_revision(hub_folder, monkeypatch):
    calls = []
    real = datasets.load_dataset

    def stand_in(path, name, revision):
        calls.append((path, name, revision))
        return real(str(hub_folder))

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    config = DataConfig(dataset="google-research-datasets/go_emotions:simplified", dataset_revision="abc123")
    data = load(config, seed=0)
    load(DataConfig(dataset="owner/name"), seed=0)
    assert calls == [("google-research-datasets/go_emotions", "simplified", "abc123"), ("owner/name", None, None)]
    assert data.source == "google-research-datasets/go_emotions:simplified@abc123"
    assert data.revision == "abc123"
    assert [len(getattr(data, role)) for role in ROLES] == [5, 2, 2]


def test_offline_without_a_cache_names_the_ways_out(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"-P dataset=FOLDER.*HF_HUB_OFFLINE=1"):
        load(DataConfig(dataset="google-research-datasets/go_emotions:simplified"), seed=0)


def test_a_damaged_file_is_an_error_of_the_data(hub_folder):
    (hub_folder / "simplified" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 not parquet")
    with pytest.raises(DataError, match="go_emotions, config default"):
        load(DataConfig(dataset=str(hub_folder)), seed=0)


class TestCommit:
    """The commit of a hub data set, by which `datasets` names the folder in its cache."""

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    @pytest.fixture
    def cached(self, hub_folder, tmp_path, monkeypatch):
        """The cache after `owner/go_emotions` was loaded with a connection, which is gone now."""
        datasets.load_dataset(str(hub_folder))
        (prepared,) = {path.parent for path in (tmp_path / "cache").rglob("dataset_info.json")}
        target = tmp_path / "cache" / "owner___go_emotions" / "default" / "0.0.0" / self.COMMIT
        shutil.copytree(prepared, target)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    @pytest.mark.usefixtures("cached")
    @pytest.mark.parametrize("revision", ["", "v1.0", COMMIT])
    def test_it_is_recorded(self, revision):
        data = load(DataConfig(dataset="owner/go_emotions", dataset_revision=revision), seed=0)
        assert (data.revision, data.source) == (self.COMMIT, f"owner/go_emotions@{self.COMMIT}")
        assert data.facts()["revision"] == self.COMMIT
        assert len(data.train) == 5

    @pytest.mark.usefixtures("cached")
    def test_another_commit_than_the_one_requested_is_refused(self):
        other = self.COMMIT[::-1]
        with pytest.raises(DataError, match=f"commit {other}.*{self.COMMIT}"):
            load(DataConfig(dataset="owner/go_emotions", dataset_revision=other), seed=0)


def test_a_value_per_label_takes_its_names_from_labels_txt(tmp_path):
    folder = tmp_path / "vectors"
    folder.mkdir()
    for stem in ("train", "validation", "test"):
        columns = {"text": ["so glad", "go away"], "label": [[1.0, 0.0], [0.0, 0.5]]}
        datasets.Dataset.from_dict(columns).to_parquet(folder / f"{stem}-0.parquet")
    with pytest.raises(DataError, match=r"numbers \(0, 0.5, 1\).*labels.txt"):
        load(DataConfig(dataset=str(folder)), seed=0)
    (folder / "labels.txt").write_text("joy\nanger")
    data = load(DataConfig(dataset=str(folder), overlap="keep"), seed=0)
    assert (data.label_names, data.dev.labels.tolist()) == (("joy", "anger"), [[1.0, 0.0], [0.0, 0.5]])
