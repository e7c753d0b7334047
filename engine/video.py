"""Write an mp4 frame by frame, carrying its own settings, under a temporary name until whole."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import av
import torch
from torch import Tensor

from engine.durable import put_in_place
from engine.spec.errors import DiskFull, EngineError
from engine.spec.job import partial_of
from engine.spec.space import is_full

CRF = "16"  # visually lossless for generated video, at a third of the size of CRF 8
SETTINGS_KEY = "comment"
ANOTHER_OUTPUT = "Choose another output, or free some space."


class VideoWriter:
    """An H.264 mp4 in the making; leaving the block on an error removes what was written."""

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: int,
        settings: str,
        fix: str = ANOTHER_OUTPUT,
    ) -> None:
        """`fix` is what to do where it cannot be written."""
        self.path, self.fix = path, fix
        self.partial = partial_of(path)
        self.size = (width, height, fps)
        self.settings = settings

    def __enter__(self) -> VideoWriter:
        width, height, fps = self.size
        with self._explained():
            self.container = av.open(str(self.partial), "w", options={"movflags": "faststart"})
        try:
            with self._explained():
                self.container.metadata[SETTINGS_KEY] = self.settings
                self.stream = self.container.add_stream("libx264", rate=fps)
                self.stream.width, self.stream.height = width, height
                self.stream.pix_fmt = "yuv420p"
                self.stream.options = {"crf": CRF, "preset": "medium", **_same_every_time()}
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, frames: Tensor) -> Iterator[None]:
        """Encode float frames [3, T, H, W], -1..1; yields after each one."""
        pixels = frames.add(1).mul(127.5).round().clamp(0, 255).byte()
        for image in pixels.permute(1, 2, 3, 0).cpu().contiguous().numpy():  # [H, W, 3]
            with self._explained():
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                self.container.mux(self.stream.encode(frame))
            yield

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                with self._explained():
                    self.container.mux(self.stream.encode(None))
                    self.container.close()
                    put_in_place(self.partial, self.path)
        finally:
            self._discard()

    def _discard(self) -> None:
        """Let go of what is not in its place yet."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self.container.close()
        self.__dict__.pop("stream", None)
        del self.container  # a file without a header is closed only by this
        with contextlib.suppress(OSError):
            self.partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, av.FFmpegError) as error:
            kind = DiskFull if is_full(error) else EngineError
            raise kind(
                "The video could not be written",
                f"{self.path}: {getattr(error, 'strerror', None) or error}",
                self.fix,
            ) from error


def _same_every_time() -> dict[str, str]:
    """Options with which libx264 makes the same bytes of the same frames.

    Its AVX-512 code for macroblock trees was seen to decide by memory that was never written.
    """
    avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return {"x264-params": "asm=avx2"} if avx512 else {}


def check_writable(path: Path) -> None:
    """Make sure, before any compute, that a file can be written at `path`.

    Raises:
        EngineError: the folder cannot be made or written to.
    """
    probe = partial_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise EngineError(
            "The output cannot be written",
            f"{path}: {error.strerror or error}",
            "Choose another output.",
        ) from error
