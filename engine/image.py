"""The first frame of image-to-video: read, fitted to the video, and laid out for the DiT."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.spec.architecture import TEMPORAL_STRIDE
from engine.spec.errors import EngineError
from engine.spec.image_file import FLIPPED, SIDEWAYS, first_still, orientation

MAX_PIXELS = 200_000_000


def read_image(path: Path) -> Tensor:
    """Read an image file, held upright: float32 [3, H, W], -1..1.

    Raises:
        EngineError: the file is missing, not an image, or too large.
    """
    import av

    try:
        still = first_still(path)
        with av.open(str(path) if still is None else BytesIO(still)) as container:
            frame = next(container.decode(video=0))
            if frame.width * frame.height > MAX_PIXELS:
                raise EngineError(
                    f"{path.name} is too large",
                    f"{path}: {frame.width}x{frame.height} pixels",
                    "Scale it down first.",
                )
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))  # [H, W, 3]
    except (OSError, av.FFmpegError, StopIteration, IndexError) as error:
        raise EngineError(
            f"{path.name} cannot be read as an image",
            f"{path}: {error}",
            "Name a PNG, JPEG or WebP file as the image.",
        ) from error
    return upright(pixels, orientation(path)).permute(2, 0, 1).float().div(127.5).sub(1)


def upright(pixels: Tensor, held: int) -> Tensor:
    """Turn and mirror [H, W, ...] as its Exif orientation says."""
    if held in SIDEWAYS:
        pixels = pixels.transpose(0, 1)
    flipped = [axis for axis, which in enumerate(FLIPPED) if held in which]
    return pixels.flip(flipped) if flipped else pixels


def fit(image: Tensor, height: int, width: int) -> Tensor:
    """Resize [3, H, W] to the video's size, as Wan does; an image of that size stays as it is."""
    if image.shape[1:] == (height, width):
        return image
    return F.interpolate(image[None], (height, width), mode="bicubic", align_corners=False)[0]


def first_frame_mask(latent_frames: int, height: int, width: int) -> Tensor:
    """Which frames are given: 1 for the first, 0 for the others, [4, T, H/8, W/8].

    The four channels are the four frames of a latent; the first latent is one frame, counted
    four times.
    """
    mask = torch.zeros(TEMPORAL_STRIDE, latent_frames, height, width)
    mask[:, 0] = 1
    return mask
