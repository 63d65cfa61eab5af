"""Parts of the study of prompts with a gate."""
