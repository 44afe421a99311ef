"""Makes the starter encoder: a small DeBERTa-v2 whose vocabulary and weights come from GoEmotions alone.

```
python -m trainer.model.make_starter --step shape --source GOEMOTIONS --target WORK
python -m trainer.train --preset starter-encoder --dataset GOEMOTIONS --model WORK/config.json
python -m trainer.model.make_starter --step pack --source runs/RUN_ID --target trainer/model/starter
```
"""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.core import artifacts, settings
from trainer.core.errors import SettingsError

__all__ = ["StarterConfig", "main", "pack", "shape"]

_CONFIG = {
    "model_type": "deberta-v2",
    "vocab_size": 8000,
    "hidden_size": 320,
    "num_hidden_layers": 2,
    "num_attention_heads": 5,
    "intermediate_size": 1280,
    "hidden_act": "gelu",
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "position_buckets": 32,
    "max_relative_positions": -1,
    "max_position_embeddings": 512,
    "type_vocab_size": 0,
    "layer_norm_eps": 1e-7,
    "pad_token_id": 0,
}


@dataclass(frozen=True, kw_only=True)
class StarterConfig:
    """One step of making the starter encoder."""

    step: Literal["shape", "pack"] = "shape"
    """shape: write configuration and vocabulary for a training. pack: copy the encoder of the finished run."""
    source: str = ""
    """Folder of GoEmotions (shape) or of the run (pack)."""
    target: str = ""
    """Folder to write."""


def shape(dataset: Path, folder: Path) -> None:
    """Write the encoder's configuration and a SentencePiece vocabulary of the train texts into `folder`."""
    import sentencepiece  # no other step needs it

    with (dataset / "train.tsv").open(encoding="utf-8", newline="") as lines:
        texts = [row[0] for row in csv.reader(lines, delimiter="\t")]
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_prefix=str(tokenizer / "spm"),
        vocab_size=_CONFIG["vocab_size"],
        model_type="unigram",
        normalization_rule_name="nmt_nfkc_cf",
        user_defined_symbols=["[MASK]"],
        pad_id=0,
        pad_piece="[PAD]",
        bos_id=1,
        bos_piece="[CLS]",
        eos_id=2,
        eos_piece="[SEP]",
        unk_id=3,
        unk_piece="[UNK]",
    )
    kind = {"tokenizer_class": "DebertaV2Tokenizer", "vocab_type": "spm", "do_lower_case": True}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=2), encoding="utf-8")


def pack(run_folder: Path, target: Path) -> None:
    """Copy the encoder and tokenizer of a finished run into `target`, weights stored as float16."""
    import torch  # slow to load, and `--help` must not wait for it
    from safetensors.torch import load_file, save_file

    encoder = run_folder / artifacts.CLASSIFIER / "encoder"
    target.mkdir(parents=True, exist_ok=True)
    # The repository contains the file, and float16 halves it.
    weights = {name: tensor.to(torch.float16) for name, tensor in load_file(encoder / "model.safetensors").items()}
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    (target / "model.safetensors").chmod(0o644)  # safetensors makes it readable by its owner only
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(encoder / name, target / name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one step. Returns 0, or 1 for wrong settings."""
    try:
        config = settings.parse(StarterConfig, sys.argv[1:] if argv is None else argv)
        for name in ("source", "target"):
            if not getattr(config, name):
                raise SettingsError(f"`{name}` must not be empty.")
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 1
    {"shape": shape, "pack": pack}[config.step](Path(config.source), Path(config.target))
    return 0


if __name__ == "__main__":
    sys.exit(main())
