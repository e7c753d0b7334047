"""What a run makes, and with what."""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content
from textual.widgets import Static

from engine.spec.job import Job
from lightx2v_tui.output import printable


class Facts(Static):
    """The figures of a job that its video depends on, and its prompt."""

    DEFAULT_CSS = "Facts { height: auto; color: $text-muted; }"

    def __init__(self, *, id: str) -> None:  # noqa: A002 - as Textual calls it
        super().__init__(id=id, classes="panel", markup=False)
        self.border_title = "Video"

    def show(self, job: Job) -> None:
        """Show a job."""
        clip = f", CLIP {job.clip.precision.value}" if job.clip else ""
        vae = "tiny VAE" if job.tiny_vae else "full VAE"
        lines = (
            f"{job.width}x{job.height}, {job.frames} frames, {job.fps} fps",
            f"seed {job.seed}",
            f"DiT {job.dit.precision.value}, T5 {job.t5.precision.value}{clip}, {vae}",
            f"{job.device}, {job.compute_dtype.value}",
            job.prompt,
        )
        self.tell(lines)

    def tell(self, lines: Iterable[str]) -> None:
        """Show what is known of a video, line by line."""
        self.update(Content(printable("\n".join(lines), keep="\n")))
