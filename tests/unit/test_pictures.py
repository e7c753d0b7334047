"""Pictures out of files that people have, and out of files that lie."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.spec.errors import EngineError
from engine.spec.picture import Picture
from engine.video import VideoWriter
from lightx2v_tui.pictures import DECODED_ALL, read_frames, read_picture

LEFT, RIGHT = (10, 20, 220), (200, 50, 20)
QUICK = settings(deadline=None, max_examples=80,
                 suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


def halves(width: int = 40, height: int = 20) -> Image.Image:
    """A picture that is blue on the left and red on the right."""
    image = Image.new("RGB", (width, height), RIGHT)
    image.paste(LEFT, (0, 0, width // 2, height))
    return image


def pixel(picture: Picture, x: int, y: int) -> tuple[int, ...]:
    start = 3 * (picture.width * y + x)
    return tuple(picture.pixels[start : start + 3])


def near(found: tuple[int, ...], wanted: tuple[int, ...], within: int = 8) -> bool:
    return all(abs(a - b) <= within for a, b in zip(found, wanted, strict=True))


def greyed(colour: tuple[int, int, int]) -> tuple[int, ...]:
    return (round(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]),) * 3


def deep() -> Image.Image:
    row = struct.pack("<40H", *[0x2000] * 20, *[0xFFFF] * 20)
    return Image.frombytes("I;16", (40, 20), row * 20)


def alpha() -> Image.Image:
    image = halves().convert("RGBA")
    image.putalpha(200)
    return image


KINDS: dict[str, tuple[Callable[[], Image.Image], tuple[int, ...], tuple[int, ...]]] = {
    "rgb.png": (halves, LEFT, RIGHT),
    "rgb.jpg": (halves, LEFT, RIGHT),
    "rgb.jpeg": (halves, LEFT, RIGHT),
    "rgb.webp": (halves, LEFT, RIGHT),
    "RGB.PNG": (halves, LEFT, RIGHT),
    "palette.png": (lambda: halves().quantize(4), LEFT, RIGHT),
    "grey.png": (lambda: halves().convert("L"), greyed(LEFT), greyed(RIGHT)),
    "grey.jpg": (lambda: halves().convert("L"), greyed(LEFT), greyed(RIGHT)),
    "deep.png": (deep, (32, 32, 32), (255, 255, 255)),
    "bits.png": (lambda: halves().convert("L").point(lambda v: 255 * (v > 60)).convert("1"),
                 (0, 0, 0), (255, 255, 255)),
    "cmyk.jpg": (lambda: halves().convert("CMYK"), LEFT, RIGHT),
    "alpha.png": (alpha, LEFT, RIGHT),
    "alpha.webp": (alpha, LEFT, RIGHT),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_images_of_all_kinds(name: str, tmp_path: Path) -> None:
    make, left, right = KINDS[name]
    path = tmp_path / name
    make().save(path)
    picture = read_picture(path, 30, 30)
    assert (picture.width, picture.height) == (30, 15)
    assert near(pixel(picture, 2, 7), left)
    assert near(pixel(picture, 27, 7), right)


def test_small_pictures_stay_as_they_are(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (9, 200, 9)).save(tmp_path / "one.png")
    assert read_picture(tmp_path / "one.png", 99, 99) == Picture(1, 1, bytes((9, 200, 9)))
    halves(7, 300).save(tmp_path / "tall.png")
    picture = read_picture(tmp_path / "tall.png", 30, 30)
    assert (picture.width, picture.height) == (1, 30)


def test_animations_give_their_first_frame(tmp_path: Path) -> None:
    other = Image.new("RGB", (40, 20), (0, 255, 0))
    halves().save(tmp_path / "a.png", save_all=True, append_images=[other], duration=100)
    assert near(pixel(read_picture(tmp_path / "a.png", 40, 40), 2, 7), LEFT)


def video(path: Path, frames: int) -> Path:
    """A video that goes from black to white."""
    with VideoWriter(path, 32, 16, 16, "") as writer:
        grey = torch.linspace(-1, 1, frames).view(1, -1, 1, 1).expand(3, -1, 16, 32)
        for _ in writer.write(grey):
            pass
    return path


def test_a_video_gives_its_middle(tmp_path: Path) -> None:
    picture = read_picture(video(tmp_path / "v.mp4", 81), 16, 16)
    assert (picture.width, picture.height) == (16, 8)
    assert near(pixel(picture, 5, 5), (128, 128, 128), within=6)


@pytest.mark.parametrize(("length", "count"), [(1, 1), (1, 8), (2, 2), (5, 8), (81, 8)])
def test_frames_come_from_all_over_a_video(length: int, count: int, tmp_path: Path) -> None:
    frames = read_frames(video(tmp_path / "v.mp4", length), count, 16, 16)
    lights = [frame.pixels[60] for frame in frames]
    assert len(lights) == min(length, count)
    assert lights == sorted(lights)
    if length == 81:
        assert lights[0] < 30
        assert lights[-1] > 225


def test_long_videos_are_looked_at_by_key_frames(tmp_path: Path) -> None:
    frames = read_frames(video(tmp_path / "v.mp4", 2 * DECODED_ALL), 4, 16, 16)
    assert len(frames) == 4
    lights = [frame.pixels[60] for frame in frames]
    assert lights == sorted(lights)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def test_what_is_too_large_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    path.write_bytes(png_of(20_000, 20_000))
    with pytest.raises(EngineError, match="too large to be shown") as caught:
        read_picture(path, 10, 10)
    assert "20000x20000" in caught.value.why


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n%s\n#EXT-X-ENDLIST\n"


def test_a_playlist_does_not_open_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    halves().save(secret)
    for name in ("list.mp4", "list.png", "list.m3u8"):
        (tmp_path / name).write_bytes(PLAYLIST % os.fsencode(secret))
        with pytest.raises(EngineError, match="cannot be shown"):
            read_picture(tmp_path / name, 10, 10)


def test_what_is_no_picture_is_told(tmp_path: Path) -> None:
    image = io.BytesIO()
    halves().save(image, "png")
    contents = {"empty.png": b"", "text.png": b"hello", "short.png": image.getvalue()[:60],
                "text.mp4": b"\0\0\0\x08ftyp", "zeros.webp": bytes(400)}  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EngineError, match=f"{name} cannot be shown"):
            read_picture(tmp_path / name, 10, 10)


def test_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    for name, why in {"pipe.png": "not a file", "folder.png": "a folder", "gone.png": "No such",
                      "x" * 300: "too long", "a\0": "null"}.items():  # fmt: skip
        with pytest.raises(EngineError, match="cannot be shown") as caught:
            read_picture(tmp_path / name, 10, 10)
        assert why in caught.value.why
    with pytest.raises(EngineError, match="not a file"):
        read_picture(Path("/dev/null"), 10, 10)


def test_names_that_look_like_addresses_are_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    halves().save(tmp_path / "http:x.png")
    assert read_picture(Path("http:x.png"), 10, 10).width == 10


SEEDS = [(name, make) for name, (make, _, _) in KINDS.items() if name != "RGB.PNG"]


@QUICK
@given(st.data())
def test_a_damaged_file_gives_a_picture_or_an_error(tmp_path: Path, data: st.DataObject) -> None:
    name, make = data.draw(st.sampled_from(SEEDS))
    path = tmp_path / name
    make().save(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(EngineError):
        picture = read_picture(path, 30, 30)
        assert picture.width <= 30
        assert picture.height <= 30


@QUICK
@given(st.binary(max_size=300))
def test_any_bytes_give_a_picture_or_an_error(tmp_path: Path, content: bytes) -> None:
    for start in (b"", b"\0\0\0\x18ftypisom", b"RIFF\x20\0\0\0WEBPVP8 ", b"\xff\xd8\xff"):
        path = tmp_path / "a.bin"
        path.write_bytes(start + content)
        with suppress(EngineError):
            assert read_picture(path, 9, 9).width <= 9
