"""Says how to install what this folder needs, where it is missing: imported before all else."""

from moiety.core.extras import import_extra

for module in ("transformers", "peft"):
    import_extra(module, "a mixture of prompts", "mops")
