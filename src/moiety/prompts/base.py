"""The frozen language model and its tokenizer: from a folder, or a tiny one made here."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from moiety.core.files import refuse_damage
from moiety.core.streams import stream
from moiety.prompts.families import check_kind

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Tokenizer(Protocol):
    """How texts become tokens."""

    @property
    def names(self) -> tuple[str, ...]:
        """The tokens, in the order of their numbers."""
        ...

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        ...

    def encode(self, text: str, /) -> list[int]: ...
    def decode(self, tokens: Sequence[int], /) -> str: ...


@dataclass(frozen=True)
class Language:
    """A frozen causal language model, and how it reads texts."""

    model: Any
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Letters:
    """The tokenizer of the tiny model: printable ASCII, line ends, and an end; others are ``?``.

    >>> letters = Letters()
    >>> letters.decode(letters.encode("a+b=é"))
    'a+b=?'
    """

    names: tuple[str, ...] = ("end", "\n", *map(chr, range(32, 127)))
    end: int = 0

    def encode(self, text: str, /) -> list[int]:
        place = {name: number for number, name in enumerate(self.names) if number != self.end}
        return [place.get(letter, place["?"]) for letter in text]

    def decode(self, tokens: Sequence[int], /) -> str:
        return "".join(self.names[token] for token in tokens if token != self.end)


@dataclass(frozen=True)
class FromTransformers:
    """A tokenizer of transformers; it adds nothing of its own to a text.

    Args:
        inner: the tokenizer.
        names: the tokens; as many as the model scores.
        end: the token that ends an answer.
    """

    inner: Any
    names: tuple[str, ...]
    end: int

    def encode(self, text: str, /) -> list[int]:
        return self.inner(text, add_special_tokens=False)["input_ids"]

    def decode(self, tokens: Sequence[int], /) -> str:
        return self.inner.decode(list(tokens), skip_special_tokens=True)


def adopt_tokenizer(inner: Any, size: int) -> FromTransformers:
    """Take a tokenizer of transformers for a model that scores so many tokens.

    Raises:
        ValueError: if it has no end of text, or more tokens than the model scores.
    """
    if inner.eos_token_id is None:
        raise ValueError("the tokenizer has no end of text; give it an eos_token")
    if len(inner) > size:
        raise ValueError(f"the tokenizer has {len(inner)} tokens, but the model scores {size}")
    known = inner.convert_ids_to_tokens(range(len(inner)))
    spare = (f"unused {place}" for place in range(len(known), size))
    return FromTransformers(inner, (*map(str, known), *spare), inner.eos_token_id)


@functools.lru_cache(maxsize=1)
def open_language(folder: str = "", dtype: str = "float32", attention: str = "sdpa") -> Language:
    """Open a language model; nothing is downloaded.

    Args:
        folder: with the files of ``save_pretrained``, or with one GGUF file; empty for a tiny Llama
            of letters, with numbers that were drawn and never trained.
        dtype: ``float32`` or ``bfloat16``.
        attention: ``sdpa`` or ``eager``.

    Raises:
        ValueError: if the folder is not there, or holds no model.
    """
    if dtype not in DTYPES:
        raise ValueError(f"lm.dtype={dtype!r}; choose one of {tuple(DTYPES)}")
    if not folder:
        return Language(make_tiny_llama(attention).to(DTYPES[dtype]), Letters())
    model, tokenizer = read_folder(Path(folder), attention)
    check_numbers(model, folder)
    size = model.config.vocab_size
    return Language(model.to(DTYPES[dtype]).eval(), adopt_tokenizer(tokenizer, size))


def check_numbers(model: Any, folder: str) -> None:
    """Refuse a model some of whose numbers are none.

    Raises:
        ValueError: with the first tensor that has such.
    """
    wrong = (name for name, tensor in model.named_parameters() if not bool(tensor.isfinite().all()))
    name = next(wrong, None)
    if name is not None:
        raise ValueError(f"{folder}: {name} has numbers that are not finite; save the language "
                         "model anew from a sound copy")  # fmt: skip


def read_folder(folder: Path, attention: str) -> tuple[Any, Any]:
    """Read model and tokenizer from the files in a folder.

    Raises:
        ValueError: if it is none, or one of the two does not open whole.
    """
    import transformers

    if not folder.is_dir():
        raise ValueError(f"lm.folder={str(folder)!r} is no folder; name that of a language model")
    if (folder / "adapter_config.json").exists():
        raise ValueError(f"{folder} holds an adapter; name the folder of the language model that "
                         "it was made for")  # fmt: skip
    files = sorted(path.name for path in folder.glob("*.gguf"))
    if len(files) > 1:
        raise ValueError(f"{folder} has {len(files)} GGUF files, {files[:3]}; leave one in it")
    told: dict[str, Any] = {"local_files_only": True, **({"gguf_file": files[0]} if files else {})}
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        with refuse_damage(f"{folder} holds no language model that opens", "save it there anew"):
            config = None if files else transformers.AutoConfig.from_pretrained(folder, **told)
        if config is not None:
            check_kind(config.model_type)  # before it is opened, whole, for nothing
        with refuse_damage(f"{folder} holds no language model that opens", "save it there anew"):
            opened: Any = transformers.AutoModelForCausalLM.from_pretrained(
                folder, attn_implementation=attention, output_loading_info=True, **told
            )
        with refuse_damage(f"{folder} has no tokenizer that opens",
                           "save that of the language model beside it"):  # fmt: skip
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **told)
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()
    model, info = opened
    if info["missing_keys"]:
        raise ValueError(
            f"{folder} has no numbers for {min(info['missing_keys'])} and "
            f"{len(info['missing_keys']) - 1} others that its config.json asks for; save model and "
            "configuration anew from a sound copy"
        )
    return model, tokenizer


def make_tiny_llama(attention: str = "sdpa", width: int = 32, depth: int = 2) -> Any:
    """Make a tiny Llama of letters, its numbers drawn from an address."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=len(Letters().names),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=depth,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=stream(0, "tiny", name))
                wide = 1.0 if "embed" in name else parameter.shape[1] ** 0.5
                parameter.copy_(drawn / wide)
        model.model.norm.weight.fill_(0.5)  # so that no token is sure before anything is learnt
    return model.eval()
