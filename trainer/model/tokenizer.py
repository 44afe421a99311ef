"""Loads tokenizers that tokenize as in the pretraining of their models."""

from pathlib import Path
from typing import Any, cast

import transformers
from tokenizers import Regex, Tokenizer, models, normalizers
from transformers import DebertaV2Tokenizer, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import import_protobuf
from transformers.utils.hub import cached_file

from trainer.core.errors import ModelError

__all__ = ["load_tokenizer"]

_TRANSFORMERS: Any = transformers  # partly annotated: mypy would refuse half of these calls
_IMPORT_PROTOBUF: Any = import_protobuf  # by its own name: the package has a function of its module's name
_SAMPLES = [
    "So proud of you!",
    "I don't  know, it's 3:15 PM; CAFÉ naïve ﬁne Ⅷ",
    "schön - ça va? 你好, мир 😀\n#joy @you",
]
"""Texts that tell tokenizers apart: case, accents, contractions, spaces, scripts, symbols."""
_SPECIAL = ("pad_token", "cls_token", "sep_token", "unk_token", "mask_token")


def load_tokenizer(source: str, **options: Any) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a folder or hub id; it pads on the right.

    options: of `AutoTokenizer.from_pretrained` (revision, local_files_only).
    Raises ModelError for a tokenizer without vocabulary or padding token, OSError or ValueError when there is none.
    """
    tokenizer: PreTrainedTokenizerBase = _TRANSFORMERS.AutoTokenizer.from_pretrained(
        source, trust_remote_code=False, **options
    )
    # Without vocabulary files transformers makes a tokenizer of special tokens only, without an error.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(
            f"The model {source} has no tokenizer's vocabulary. Add tokenizer.json or the vocabulary file (vocab.txt, "
            "spm.model) to its folder."
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(f"The tokenizer of {source} has no padding token. Choose an encoder, not a decoder.")
    vocabulary = getattr(tokenizer, "vocab_file", None)
    if isinstance(tokenizer, DebertaV2Tokenizer) and vocabulary and Path(vocabulary).is_file():
        tokenizer = _as_sentencepiece(tokenizer, Path(vocabulary))
    else:
        tokenizer = _as_in_file(tokenizer, source, options)
    tokenizer.padding_side = "right"
    return tokenizer


def _as_in_file(tokenizer: Any, source: str, options: dict[str, Any]) -> PreTrainedTokenizerBase:
    """Return the tokenizer with the token ids of its tokenizer.json.

    For some classes transformers 5 takes the vocabulary from that file and builds model and normaliser anew: a
    WordPiece file in a RoBERTa folder is then read as BPE, which splits words into letters.
    """
    path = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False, **options)
    if path is None:
        return cast("PreTrainedTokenizerBase", tokenizer)
    stored = Tokenizer.from_file(path)
    stored.no_padding()
    stored.no_truncation()
    expected = [encoding.ids for encoding in stored.encode_batch(_SAMPLES, add_special_tokens=False)]
    if tokenizer(_SAMPLES, add_special_tokens=False)["input_ids"] == expected:
        return cast("PreTrainedTokenizerBase", tokenizer)
    if len(stored.encode("").ids) == 0:  # a file that leaves special tokens to the class of the tokenizer
        stored.post_processor = tokenizer.backend_tokenizer.post_processor
    return _rebuilt(tokenizer, stored, list(tokenizer.model_input_names))


def _rebuilt(tokenizer: Any, backend: Tokenizer, input_names: list[str]) -> PreTrainedTokenizerBase:
    rebuilt: PreTrainedTokenizerBase = _TRANSFORMERS.TokenizersBackend(
        tokenizer_object=backend,
        model_max_length=tokenizer.model_max_length,
        model_input_names=input_names,
        **{name: getattr(tokenizer, name) for name in _SPECIAL},
    )
    return rebuilt


def _as_sentencepiece(tokenizer: Any, vocabulary: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer with the normalisation and byte tokens of its SentencePiece file.

    transformers 5 leaves both out for DeBERTa: about 3 GoEmotions examples in 1,000 (emoji, trade marks, full-width
    letters) then have unknown tokens, which the pretrained weights never saw.
    """
    file = _IMPORT_PROTOBUF().ModelProto()
    file.ParseFromString(vocabulary.read_bytes())
    backend = tokenizer.backend_tokenizer
    vocabulary_scores = [(token.piece, token.score) for token in file.pieces]
    backend.model = models.Unigram(
        vocabulary_scores, unk_id=file.trainer_spec.unk_id, byte_fallback=file.trainer_spec.byte_fallback
    )
    steps: list[Any] = [normalizers.Lowercase()] if tokenizer.do_lower_case else []
    if file.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(file.normalizer_spec.precompiled_charsmap))
    # Strip and Replace: SentencePiece removes extra spaces outside its character map.
    backend.normalizer = normalizers.Sequence([*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")])
    # No token_type_ids: the encoder is called without.
    return _rebuilt(tokenizer, backend, ["input_ids", "attention_mask"])
