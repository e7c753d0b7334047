"""The stages of a run: text, image, denoise, decode.

A stage is a generator: it yields events and returns what the next stage needs. Networks come from
the warm engine, which loads what it does not have.
"""

from engine.stages.common import (
    CLIP,
    DIT,
    T5,
    TINY_VAE_DECODER,
    VAE_DECODER,
    VAE_ENCODER,
    Run,
)
from engine.stages.decode import decode
from engine.stages.denoise import Conditions, denoise
from engine.stages.encode import encode_image, encode_text

__all__ = [
    "CLIP",
    "DIT",
    "T5",
    "TINY_VAE_DECODER",
    "VAE_DECODER",
    "VAE_ENCODER",
    "Conditions",
    "Run",
    "decode",
    "denoise",
    "encode_image",
    "encode_text",
]
