"""Prompts to token ids, as Wan does it: cleaned, at most 512 tokens, `</s>` at the end."""

from __future__ import annotations

import html
import re
from pathlib import Path

import torch
from torch import Tensor

from engine.spec.errors import CheckpointError


def clean(prompt: str) -> str:
    """Repair mojibake and HTML entities, fold white space (Wan's `whitespace` cleaning)."""
    import ftfy

    prompt = prompt.encode("utf-8", "replace").decode()
    repaired = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", repaired).strip()


def tokenize(prompt: str, tokenizer: Path, max_length: int) -> Tensor:
    """Token ids [1, L] of a prompt, cut to `max_length` with the end token kept as the last one.

    Args:
        prompt: the text as typed.
        tokenizer: the folder of `google/umt5-xxl`, which holds tokenizer.json.
        max_length: the most tokens the DiT was trained to read.

    Raises:
        CheckpointError: the tokenizer is missing or damaged.
    """
    from tokenizers import Tokenizer

    path = tokenizer / "tokenizer.json"
    try:
        encoder = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # boundary: the library raises plain Exception
        raise CheckpointError(
            "The T5 tokenizer cannot be read",
            f"{path}: {error}",
            "Put the google/umt5-xxl folder of the model beside its T5 file.",
        ) from error
    encoder.no_padding()  # settings that a tokenizer.json may carry: pad tokens would reach T5
    encoder.no_truncation()
    ids = encoder.encode(clean(prompt)).ids
    if len(ids) > max_length:
        ids = [*ids[: max_length - 1], *encoder.encode("").ids[-1:]]
    return torch.tensor([ids])
