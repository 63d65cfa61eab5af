"""First values of prompts: hidden states of a text, of random tokens, or noise of their size.

Letters: E experts, M prompts of an expert, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from moiety.core.streams import stream
from moiety.prompts.config import MopsConfig
from moiety.prompts.layer import MopsLayer
from moiety.prompts.request import Recorder


def choose_tokens(config: MopsConfig, vocabulary: int) -> Tensor:
    """Choose the tokens that each expert starts from, [E, M]."""
    shape = config.num_experts, config.prompts_per_expert
    if config.prompt_init == "text":
        return read_tokens(config)
    return torch.randint(vocabulary, shape, generator=stream(config.seed, "prompts"))


def read_tokens(config: MopsConfig) -> Tensor:
    """Read the texts of a configuration, each repeated or cut to one token a prompt, [E, M].

    Raises:
        ValueError: if no tokenizer is named or found, or a text has no token.
    """
    from transformers import AutoTokenizer  # slow to load, and only this start needs it

    if config.tokenizer_name_or_path is None:
        raise ValueError("prompt_init='text' needs tokenizer_name_or_path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(config.tokenizer_name_or_path)
    except (OSError, ValueError) as error:
        name = config.tokenizer_name_or_path
        raise ValueError(f"tokenizer_name_or_path={name!r} does not open: {error}") from error
    return tile_tokens(
        [tokenizer(text, add_special_tokens=False)["input_ids"] for text in config.texts()],
        config.prompts_per_expert,
    )


def tile_tokens(texts: list[list[int]], length: int) -> Tensor:
    """Repeat or cut each text to a length, [texts, length].

    >>> tile_tokens([[1, 2], [3, 4, 5, 6]], 3).tolist()
    [[1, 2, 1], [3, 4, 5]]
    """
    if not all(texts):
        raise ValueError(f"text {texts.index([])} that prompts start from has no token; write one")
    return torch.tensor([(one * -(-length // len(one)))[:length] for one in texts])


@torch.no_grad()
def record_inputs(model: Any, tokens_EM: Tensor) -> Mapping[int, Tensor]:
    """Record what the attention of each layer is given for some tokens, [E, M, D].

    A token in front takes the place of the first position, whose hidden states are unlike others.
    """
    first: int = model.config.bos_token_id or 0
    known = first < model.config.vocab_size
    front = torch.full((len(tokens_EM), 1), first if known else 0)
    tokens = torch.cat([front, tokens_EM], 1).to(model.get_input_embeddings().weight.device)
    recorder, training = Recorder(), model.training
    model.eval()
    try:
        model(input_ids=tokens, use_cache=False, mops_context=recorder)
    finally:
        model.train(training)
    return {layer: given[:, 1:].contiguous() for layer, given in recorder.inputs.items()}


def draw_like(given_EMD: Tensor, config: MopsConfig, layer: int) -> Tensor:
    """Draw noise of the deviation of some hidden states, [E, M, D]."""
    noise = torch.randn(given_EMD.shape, generator=stream(config.seed, "prompts", layer))
    return noise.to(given_EMD.device) * given_EMD.float().std()


def project_start(layer: MopsLayer, start_EMD: Tensor) -> Tensor:
    """Make keys and values of what the attention of a layer is given, beside each other."""
    found = layer.family.project(layer.base_layer, start_EMD)
    return torch.cat([one.flatten(-2) for one in found], -1)


@torch.no_grad()
def fill_prompts(
    model: Any, layers: Mapping[int, MopsLayer], name: str, config: MopsConfig
) -> None:
    """Make the first values of an adapter's prompts, in place; none where they have no numbers."""
    held = {n: one for n, one in layers.items() if name in one.mops_prompts}
    if any(one.mops_prompts[name].is_meta for one in held.values()):
        return
    given = record_inputs(model, choose_tokens(config, model.config.vocab_size))
    for place, layer in held.items():
        start_EMD = given[place]
        if config.prompt_init == "normal":
            start_EMD = draw_like(start_EMD, config, place)
        if config.prompt_space == "kv":
            start_EMD = project_start(layer, start_EMD.to(given[place].dtype))
        layer.mops_prompts[name].copy_(start_EMD)
