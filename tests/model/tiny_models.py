"""Tiny models of every architecture."""

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_WORDS = ["so", "proud", "of", "you", "i", "miss", "her", "what", "a", "day", "!", "."]
_COMMON = {"vocab_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "pad_token_id": 0}
_FEED = {"intermediate_size": 32, "max_position_embeddings": 32}
_DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
_V3 = {"share_att_key": True, "position_buckets": 8, "norm_rel_ebd": "layer_norm", "position_biased_input": False}

ARCHITECTURES = {
    "bert": lambda: transformers.BertConfig(**_COMMON, **_FEED),
    "roberta": lambda: transformers.RobertaConfig(**_COMMON, **_FEED),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_COMMON, **_FEED),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=24, dim=16, n_layers=2, n_heads=2, hidden_dim=32, max_position_embeddings=32
    ),
    "electra": lambda: transformers.ElectraConfig(**_COMMON, **_FEED, embedding_size=8),
    "modernbert": lambda: transformers.ModernBertConfig(
        **_COMMON, **_FEED, cls_token_id=2, sep_token_id=3, bos_token_id=2, eos_token_id=3
    ),
    "deberta": lambda: transformers.DebertaConfig(**_COMMON, **_FEED, **_DEBERTA),
    "deberta-v2": lambda: transformers.DebertaV2Config(**_COMMON, **_FEED, **_DEBERTA),
    "deberta-v3": lambda: transformers.DebertaV2Config(**_COMMON, **_FEED, **_DEBERTA, **_V3),
}


def make_tokenizer():
    """A tokenizer of 17 words with [CLS] and [SEP]."""
    words = {word: i for i, word in enumerate([*_SPECIAL, *_WORDS])}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return transformers.TokenizersBackend(
        tokenizer_object=backend, **{f"{name}_token": token for name, token in names.items()}
    )


def save_model(folder, architecture="bert"):
    """Write a tiny random model of the architecture, with its tokenizer, as the hub has them."""
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(ARCHITECTURES[architecture]())
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder
