"""Texts as windows of tokens: a row's labels are the tokens that follow."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from moiety.data.cache import open_data_file
from moiety.data.dataset import Dataset
from moiety.data.files import require_file
from moiety.tasks.losses import UNSCORED

CONTEXT = 64
"""Characters of a window."""

HELD_OUT = 0.1
"""The last share of a text that is the test part."""


def cut_windows(tokens: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Cut tokens into windows side by side, and the tokens that follow each; the rest is left.

    >>> cut_windows(torch.arange(6), 2)[1].tolist()
    [[1, 2], [3, 4]]
    """
    count = (len(tokens) - 1) // context
    if count < 1:
        raise ValueError(f"{len(tokens)} tokens make no window of {context=}; choose a shorter one")
    end = count * context
    return tokens[:end].view(count, context), tokens[1 : end + 1].view(count, context)


def cut_covering_windows(tokens: Tensor, context: int) -> tuple[Tensor, Tensor]:
    """Cut tokens into windows so that each token but the first follows once.

    Where windows side by side leave some over, one more ends with the text; of it, only tokens
    that did not follow yet have a label, and the others -1.

    >>> cut_covering_windows(torch.arange(6), 3)[1].tolist()
    [[1, 2, 3], [-1, 4, 5]]
    """
    x, y = cut_windows(tokens, context)
    left = len(tokens) - 1 - y.numel()
    if not left:
        return x, y
    last = tokens[-context:].clone()
    last[: context - left] = UNSCORED
    return torch.cat([x, tokens[None, -context - 1 : -1]]), torch.cat([y, last[None]])


def read_text(path: Path, letters: Sequence[str], context: int) -> Dataset:
    """Read a plain text in UTF-8 as windows of characters that are known already.

    Args:
        path: the file; any name but those of tables.
        letters: the alphabet, in the order of its numbers.
        context: characters of a window.

    Raises:
        ValueError: if it is no such text, too short, or has unknown characters.
    """
    wanted = f"a text in UTF-8 of at least {context + 1} characters"
    require_file(path, wanted)
    if path.suffix.lower() in (".npz", ".csv", ".parquet", ".pq"):
        raise ValueError(f"{path} is no text, but this model reads one; give {wanted}, as .txt")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}); give {wanted}") from error
    if len(text) <= context:
        raise ValueError(
            f"{path} has {len(text)} characters, but the model reads {context} and says what "
            f"follows each; give {wanted}"
        )
    place = {letter: number for number, letter in enumerate(letters)}
    refuse_unknown(path, text, place)
    x, y = cut_covering_windows(torch.tensor([place[letter] for letter in text]), context)
    return Dataset(path.stem, x, y, tuple(letters), source=path.name)


def read_training_text(path: Path) -> Dataset:
    """Read a plain text in UTF-8 to train on; its last tenth is the test part.

    Raises:
        ValueError: if it is no such text, or too short.
    """
    wanted = f"a text in UTF-8 of more than {20 * CONTEXT} characters"
    require_file(path, wanted)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 ({error.reason}); give {wanted}") from error
    if len(text) <= 20 * CONTEXT:
        raise ValueError(f"{path} has {len(text)} characters; give {wanted}")
    return cut_text(path.stem, text, path.name, "")


def cut_text(name: str, text: str, source: str, licence: str, context: int = CONTEXT) -> Dataset:
    """Cut a text into windows of characters, the last tenth of which is the test part."""
    letters = sorted(set(text))
    place = {letter: number for number, letter in enumerate(letters)}
    x, y = cut_windows(torch.tensor([place[letter] for letter in text]), context)
    return Dataset(
        name=name,
        x=x.clone(),
        y=y.clone(),
        classes=tuple(letters),
        test=torch.arange(len(x)) >= round(len(x) * (1 - HELD_OUT)),
        source=source,
        licence=licence,
    )


def refuse_unknown(path: Path, text: str, place: Mapping[str, int]) -> None:
    """Refuse characters that are not in the alphabet, by name and first line."""
    unknown = sorted(set(text) - set(place))
    if unknown:
        named = [f"{one!r} (line {text.count(chr(10), 0, text.index(one)) + 1})" for one in unknown]
        more = f" and {len(named) - 10} others" if len(named) > 10 else ""
        raise ValueError(
            f"{path} has characters that the model does not know: {', '.join(named[:10])}{more}; "
            f"replace or drop them. It knows {''.join(place)!r}"
        )


def shakespeare(context: int = CONTEXT) -> Dataset:
    """Load tiny Shakespeare as characters, [17428, 64]; its last tenth is the test part.

    A class is a character, and its name is the character itself.
    """
    with open_data_file("lm_tinyshakespeare.txt.gz") as path:
        text = gzip.decompress(path.read_bytes()).decode("utf8")
    source = "Karpathy 2015, char-rnn: plays of William Shakespeare"
    return cut_text("shakespeare", text, source, "public domain", context)
