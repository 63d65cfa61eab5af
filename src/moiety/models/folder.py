"""An encoder of Hugging Face in a folder: its module, its tokenizer, what tells it from others."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from moiety.core.extras import import_extra
from moiety.core.tensors import digest_tensors, move_tensors
from moiety.core.types import Params

FAMILIES = ("bert", "camembert", "distilbert", "roberta", "xlm-roberta")
"""Encoders whose blocks read hidden states and a mask alone, as ``config.json`` names them."""

WANTED = "a folder of a BERT-like encoder: config.json, model.safetensors and its tokenizer"

SAMPLE = "A naïve test: 42 words, don't you THINK?\n你好"
"""A text whose tokens tell tokenizers of one vocabulary apart."""


@dataclass(frozen=True, eq=False)
class EncoderFolder:
    """What a folder holds; nobody changes it.

    Args:
        module: of transformers, in single precision, without dropout.
        tokenizer: of transformers.
        blocks: where its blocks lie in the module.
        mark: tells its numbers and its tokenizer from others.
    """

    module: Any
    tokenizer: Any
    blocks: str
    mark: str

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.module.get_submodule(self.blocks))

    @property
    def positions(self) -> int:
        """Tokens that it reads at most."""
        held = self.module.embeddings.position_embeddings
        free = held.num_embeddings - (0 if held.padding_idx is None else held.padding_idx + 1)
        return min(free, int(self.tokenizer.model_max_length))

    def tensors(self, device: str = "cpu") -> Params:
        """Give the numbers of embeddings and blocks, by their names in the module; always these."""
        return place_numbers(self, str(torch.empty(0, device=device).device))

    def tokenize(self, texts: Sequence[str], length: int) -> list[list[int]]:
        """Make texts tokens, each cut to so many; a text of nothing is one token of padding."""
        found = self.tokenizer(list(texts), truncation=True, max_length=length, verbose=False)
        return [tokens or [self.padding] for tokens in found["input_ids"]]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Count the tokens of texts that are not cut."""
        found = self.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        return [len(tokens) for tokens in found]

    @property
    def padding(self) -> int:
        """The token that stands where there is none."""
        return self.module.config.pad_token_id or 0


@functools.lru_cache(maxsize=4)
def place_numbers(opened: EncoderFolder, device: str) -> Params:
    """Bring the numbers of an encoder to a device, once for all networks that are made of it."""
    parts = ("embeddings.", f"{opened.blocks}.")
    named = opened.module.named_parameters()
    mine = {name: t.detach() for name, t in named if name.startswith(parts)}
    return move_tensors(mine, device)


def open_encoder(folder: str) -> EncoderFolder:
    """Open an encoder; nothing is downloaded, unpickled or run from the folder.

    Raises:
        ValueError: if the folder is not there, or holds no encoder that is known here.
    """
    where = Path(folder)
    if not folder or not where.is_dir():
        said = f"pretrained.folder={folder!r} is no folder" if folder else "there is no encoder"
        raise ValueError(f"{said}; say --pretrained.folder FOLDER, {WANTED}")
    return open_stamped(folder, stamp_folder(where))


def stamp_folder(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Tell the files in a folder from what they were before."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in files)


@functools.lru_cache(maxsize=1)
def open_stamped(folder: str, now: tuple[tuple[str, int, int], ...]) -> EncoderFolder:
    """Open the encoder in a folder as it is ``now``."""
    del now
    with torch.device("cpu"):  # numbers also where a plan has shapes alone
        module, tokenizer = read_encoder(folder)
    blocks = next(
        name
        for name, part in module.named_modules()
        if isinstance(part, torch.nn.ModuleList) and len(part) == module.config.num_hidden_layers
    )
    module.requires_grad_(requires_grad=False).eval()
    made = EncoderFolder(module, tokenizer, blocks, "")
    refuse_unfit(made, folder)
    return EncoderFolder(module, tokenizer, blocks, mark_encoder(made))


def read_encoder(folder: str) -> tuple[Any, Any]:
    """Read module and tokenizer from the files in a folder.

    Raises:
        ValueError: if they are none that open, or of no family that is known here.
    """
    transformers = import_extra("transformers", "a pretrained encoder", "llm")
    local: Any = {"local_files_only": True, "trust_remote_code": False}
    if (Path(folder) / "adapter_config.json").exists():
        raise ValueError(f"{folder} holds an adapter; give {WANTED}")
    with read_quietly(transformers, folder):
        config = transformers.AutoConfig.from_pretrained(folder, **local)
    refuse_others(config, folder)
    with read_quietly(transformers, folder):
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **local)
        module, told = transformers.AutoModel.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32,
            use_safetensors=True, output_loading_info=True, **local,
        )  # fmt: skip
    lost = sorted(name for name in told["missing_keys"] if not name.startswith("pooler."))
    if lost:
        raise ValueError(f"{folder}: its file of numbers lacks {lost[:3]}; give {WANTED}")
    return module, tokenizer


def refuse_others(config: Any, folder: str) -> None:
    """Refuse what is no encoder whose blocks are known.

    Raises:
        ValueError: with those that are.
    """
    if config.model_type not in FAMILIES or getattr(config, "is_decoder", False):
        raise ValueError(
            f"{folder} holds a model of type {config.model_type!r}, which is no encoder that is "
            f"known here; give one of {', '.join(FAMILIES)}"
        )


def refuse_unfit(opened: EncoderFolder, folder: str) -> None:
    """Refuse an encoder without a tokenizer, numbers that are not finite, or too few tokens.

    Raises:
        ValueError: with what is wrong.
    """
    if not {*opened.tokenizer.get_vocab()} - {*opened.tokenizer.all_special_tokens}:
        # where its files lack, the library makes one that knows no word
        raise ValueError(f"{folder}: its tokenizer is not there, or knows no word; give {WANTED}")
    known, held = len(opened.tokenizer), opened.module.config.vocab_size
    if known > held:
        raise ValueError(f"{folder}: its tokenizer has {known} tokens, but the encoder {held}")
    for name, tensor in opened.tensors().items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{folder}: {name} has numbers that are not finite; save it anew")


def mark_encoder(opened: EncoderFolder) -> str:
    """Tell an encoder from others: by its numbers, its words, and how it cuts a sample."""
    words = sorted(opened.tokenizer.get_vocab().items())
    told = [words, opened.tokenize([SAMPLE], opened.positions), digest_tensors(opened.tensors())]
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=8).hexdigest()


@contextmanager
def read_quietly(transformers: Any, folder: str) -> Iterator[None]:
    """Let the library read files without a bar, and without a word on heads that are not read.

    Raises:
        ValueError: where it cannot.
    """
    logging = transformers.utils.logging
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # files of any content raise errors of many types
        raise ValueError(
            f"{folder} holds no encoder that opens ({error}); give {WANTED}"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
