"""A small RGB picture as plain bytes: what previews and thumbnails are, without numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """`pixels` are `height` rows of `width` RGB triples, one byte a channel."""

    width: int
    height: int
    pixels: bytes

    def __post_init__(self) -> None:
        if len(self.pixels) != 3 * self.width * self.height:
            raise ValueError(f"{len(self.pixels)} bytes are not {self.width}x{self.height} RGB")
