"""Facts that a run prints before it begins."""

from trainer import plan_summary
from trainer.data.config import DataConfig
from trainer.data.sources import load


def test_labels_are_named_with_their_train_examples(tmp_path):
    for role in ("train", "dev", "test"):
        rows = [f"{role} {row},{'joy' if row % 3 else 'grief|joy'}" for row in range(6)]
        (tmp_path / f"{role}.csv").write_text("\n".join(["text,labels", *rows]))
    facts = plan_summary.data_facts(load(DataConfig(dataset=str(tmp_path)), seed=0), {})
    assert facts["labels in train"] == "grief 2, joy 6"
    assert plan_summary.data_facts(load(DataConfig(), seed=0), {})["labels in train"].endswith("and 18 more")
