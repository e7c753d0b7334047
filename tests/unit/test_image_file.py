"""Which way is up in an image, told as Pillow tells it."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from engine.image import read_image
from engine.spec.image_file import UPRIGHT, first_still, orientation
from engine.spec.image_size import image_size
from lightx2v_tui.pictures import read_picture

CORNERS = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0))
QUICK = settings(deadline=None, max_examples=150,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


def picture(width: int = 48, height: int = 32) -> Image.Image:
    """Four quarters of four colours."""
    image = Image.new("RGB", (width, height))
    for index, colour in enumerate(CORNERS):
        left, top = index % 2 * width // 2, index // 2 * height // 2
        image.paste(colour, (left, top, left + width // 2, top + height // 2))
    return image


def held(path: Path, value: int) -> Path:
    exif = Image.Exif()
    exif[0x0112] = value
    picture().save(path, exif=exif, **({"quality": 95} if path.suffix != ".png" else {}))
    return path


def corners(pixels: torch.Tensor) -> list[tuple[int, ...]]:
    """The nearest of the four colours in the middle of each quarter of [H, W, 3]."""
    height, width = pixels.shape[:2]
    found = []
    for index in range(4):
        y, x = height // 4 + index // 2 * height // 2, width // 4 + index % 2 * width // 2
        seen = pixels[y, x].tolist()
        found.append(min(CORNERS, key=lambda c: sum(abs(a - b) for a, b in zip(c, seen))))  # noqa: B905 - of one length
    return found


def as_tensor(image: Image.Image) -> torch.Tensor:
    flat = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
    return flat.view(image.height, image.width, 3).float()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("value", range(1, 9))
def test_all_orientations_are_held_as_pillow_holds_them(
    value: int, suffix: str, tmp_path: Path
) -> None:
    path = held(tmp_path / f"a.{suffix}", value)
    with Image.open(path) as image:
        wanted = as_tensor(ImageOps.exif_transpose(image))
    assert orientation(path) == value
    assert image_size(path) == (wanted.shape[1], wanted.shape[0])
    engine = read_image(path).add(1).mul(127.5).permute(1, 2, 0)
    assert engine.shape == wanted.shape
    shown = read_picture(path, 24, 24)
    pixels = torch.frombuffer(bytearray(shown.pixels), dtype=torch.uint8).float()
    assert corners(engine) == corners(wanted)
    assert corners(pixels.view(shown.height, shown.width, 3)) == corners(wanted)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_other_values_mean_nothing(value: int, tmp_path: Path) -> None:
    path = held(tmp_path / "a.jpg", value)
    assert orientation(path) == UPRIGHT
    assert image_size(path) == (48, 32)


def test_images_that_say_nothing_are_upright(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp", "gif"):
        picture().save(tmp_path / f"a.{suffix}")
        assert orientation(tmp_path / f"a.{suffix}") == UPRIGHT
    assert orientation(tmp_path / "gone.png") == UPRIGHT


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_an_animated_webp_gives_its_first_picture(
    mode: str, lossless: bool, tmp_path: Path
) -> None:
    first, path = picture().convert(mode), tmp_path / "a.webp"
    if mode == "RGBA":
        first.putalpha(200)
    later = Image.new(mode, first.size)
    first.save(path, save_all=True, append_images=[later], duration=90, lossless=lossless,
               exact=True)  # fmt: skip
    assert first_still(path) is not None
    assert image_size(path) == (48, 32)
    engine = read_image(path).add(1).mul(127.5).permute(1, 2, 0)
    assert corners(engine) == list(CORNERS)
    shown = read_picture(path, 48, 48)
    pixels = torch.frombuffer(bytearray(shown.pixels), dtype=torch.uint8).float()
    assert corners(pixels.view(shown.height, shown.width, 3)) == list(CORNERS)


def test_still_images_are_left_as_they_are(tmp_path: Path) -> None:
    for name in ("a.webp", "a.png", "a.jpg"):
        picture().save(tmp_path / name)
        assert first_still(tmp_path / name) is None
    held(tmp_path / "extended.webp", 1)
    assert first_still(tmp_path / "extended.webp") is None
    assert first_still(tmp_path / "gone.webp") is None


@QUICK
@given(st.sampled_from([b"", b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X",
                        b"RIFF\0\0\0\0WEBPEXIF\x40\0\0\0MM\0*",
                        b"\xff\xd8\xff\xe1\0\x40Exif\0\0II*\0"]),
       st.binary(max_size=120))  # fmt: skip
def test_whatever_a_file_holds_it_is_held_somehow(
    tmp_path: Path, start: bytes, rest: bytes
) -> None:
    path = tmp_path / "a"
    path.write_bytes(start + rest)
    assert 1 <= orientation(path) <= 8
    first_still(path)


def test_a_directory_that_lies_elsewhere_is_followed(tmp_path: Path) -> None:
    exif = b"Exif\0\0MM\0*" + struct.pack(">I", 30) + bytes(22)
    exif += struct.pack(">HHHIHH", 1, 0x0112, 3, 1, 8, 0)
    path = tmp_path / "a.jpg"
    path.write_bytes(b"\xff\xd8\xff\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif)
    assert orientation(path) == 8
