"""Failures told in three lines: what happened, why, and what to do about it."""

from __future__ import annotations

from typing import Literal


class EngineError(Exception):
    """A failure the user can act on; `what`, `why` and `fix` are one line each."""

    def __init__(self, what: str, why: str = "", fix: str = "") -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.why, self.fix) if line)


class JobError(EngineError):
    """The request itself is wrong: nothing was read and nothing was computed."""


class CheckpointError(EngineError):
    """A weight file is missing, damaged, incomplete or not what the job says it is."""


class OutOfMemoryFailure(EngineError):  # noqa: N818 - told as it is
    """Memory was not enough; everything that was loaded has been let go.

    `stage` is the one of `events.STAGES` it happened in, `device` whose memory it was, and
    `beside` the slots of the networks that were loaded there and had no part in that stage.
    """

    def __init__(
        self,
        what: str,
        why: str = "",
        fix: str = "",
        *,
        stage: str = "prepare",
        device: Literal["cuda", "ram"] = "cuda",
        beside: tuple[str, ...] = (),
    ) -> None:
        super().__init__(what, why, fix)
        self.stage = stage
        self.device = device
        self.beside = beside


class DiskFull(EngineError):  # noqa: N818 - told as it is
    """A file could not be written because there is no room; what is in memory is safe."""


class Cancelled(Exception):  # noqa: N818 - a request that was honoured, not an error
    """The stop event was set; raised at the next block, step, tile or frame."""
