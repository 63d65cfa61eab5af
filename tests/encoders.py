"""Tiny encoders in folders of Hugging Face, each with a tokenizer of a few words."""

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="the extra 'llm' is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="the extra 'llm' is not installed")

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = ("good", "fine", "warm", "bad", "cold", "dull", "the", "film", "was")
SMALL = {
    "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 2, "max_position_embeddings": 24,
}  # fmt: skip
CONFIGS = {
    "bert": lambda: transformers.BertConfig(**SMALL),
    "camembert": lambda: transformers.CamembertConfig(**SMALL, pad_token_id=0),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=16, dim=8, hidden_dim=12, n_layers=3, n_heads=2, max_position_embeddings=24
    ),
    "roberta": lambda: transformers.RobertaConfig(**SMALL, pad_token_id=0),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SMALL, pad_token_id=0),
}


def make_tokenizer(words=WORDS):
    """Make a tokenizer of whole words, with a token in front and one behind."""
    known = {word: place for place, word in enumerate((*SPECIAL, *words))}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.Lowercase()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def make_encoder(kind="bert", seed=0):
    """Make a tiny encoder whose numbers are large enough for differences to show."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = transformers.AutoModel.from_config(CONFIGS[kind]())
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10)
    return module.eval()


def save_encoder(folder, kind="bert", seed=0, words=WORDS):
    """Save an encoder and its tokenizer as Hugging Face does; gives the folder as text."""
    make_encoder(kind, seed).save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    return str(folder)
