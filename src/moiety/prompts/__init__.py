"""A mixture of prompts with a gate, as a PEFT tuner for causal language models (extra ``mops``).

Importing this folder makes the method known to PEFT: ``get_peft_model(base, MopsConfig(...))``.
"""

import moiety.prompts.installed  # noqa: F401  (says what is missing)
from moiety.prompts.compress import prune_language
from moiety.prompts.config import MopsConfig
from moiety.prompts.edit import add_expert, drop_expert, join_adapters, sum_adapters
from moiety.prompts.language import PromptedLM, make_prompted, put_params, save_adapter
from moiety.prompts.low_rank import save_lora
from moiety.prompts.model import MopsModel
from moiety.prompts.pretrain import GateFit, GateTraining, pretrain_gate, read_requests
from moiety.prompts.register import register_mops

register_mops()

__all__ = [
    "GateFit",
    "GateTraining",
    "MopsConfig",
    "MopsModel",
    "PromptedLM",
    "add_expert",
    "drop_expert",
    "join_adapters",
    "make_prompted",
    "pretrain_gate",
    "prune_language",
    "put_params",
    "read_requests",
    "save_adapter",
    "save_lora",
    "sum_adapters",
]
