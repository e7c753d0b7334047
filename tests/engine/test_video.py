"""The mp4: whole, readable, with its settings inside, or not there at all."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.spec.errors import EngineError
from engine.video import VideoWriter, check_writable

WIDTH, HEIGHT, FPS = 96, 64, 16
SETTINGS = json.dumps({"prompt": 'A "red" fox — 狐狸\nruns', "seed": 42, "extra": ["x" * 50] * 99})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "videos"
    path.mkdir()
    return path


def grey(*levels: float) -> Tensor:
    """Frames [3, T, H, W], each of one grey."""
    return torch.tensor(levels).view(1, -1, 1, 1).expand(3, -1, HEIGHT, WIDTH)


def write(path: Path, *chunks: Tensor, settings: str = "") -> int:
    with VideoWriter(path, WIDTH, HEIGHT, FPS, settings) as writer:
        return sum(1 for chunk in chunks for _ in writer.write(chunk))


def fail_after(frames: int, path: Path) -> None:
    with VideoWriter(path, WIDTH, HEIGHT, FPS, "") as writer:
        for _ in range(frames):
            list(writer.write(grey(0.0)))
        raise RuntimeError("boom")


def read(path: Path) -> list[Tensor]:
    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return [torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in frames]


def test_all_frames_come_back_in_order_and_size(folder: Path) -> None:
    levels = (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert write(folder / "a.mp4", grey(levels[0]), grey(*levels[1:])) == 5
    frames = read(folder / "a.mp4")
    assert [tuple(frame.shape) for frame in frames] == [(HEIGHT, WIDTH, 3)] * 5
    for frame, level in zip(frames, levels, strict=True):
        assert abs(frame.float().mean().item() - (level + 1) * 127.5) < 4


def test_colours_keep_their_channels(folder: Path) -> None:
    red = grey(-1.0).clone()
    red[0] = 1.0
    write(folder / "a.mp4", red)
    means = read(folder / "a.mp4")[0].float().mean((0, 1))
    assert means[0] > 240
    assert means[1:].max() < 15


def test_frame_rate_and_codec(folder: Path) -> None:
    write(folder / "a.mp4", grey(0.0, 0.1, 0.2))
    with av.open(str(folder / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == FPS
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"


def test_the_video_carries_its_settings(folder: Path) -> None:
    write(folder / "a.mp4", grey(0.0), settings=SETTINGS)
    with av.open(str(folder / "a.mp4")) as container:
        assert container.metadata["comment"] == SETTINGS


@pytest.mark.parametrize("frames", [0, 1])
def test_an_error_inside_leaves_no_file(frames: int, folder: Path) -> None:
    with pytest.raises(RuntimeError, match="boom"):
        fail_after(frames, folder / "a.mp4")
    assert list(folder.iterdir()) == []


def test_an_error_inside_leaves_the_old_file_as_it_was(folder: Path) -> None:
    path = folder / "a.mp4"
    path.write_bytes(b"an older video")
    with pytest.raises(RuntimeError, match="boom"):
        fail_after(1, path)
    assert path.read_bytes() == b"an older video"
    assert list(folder.iterdir()) == [path]


def test_nothing_is_at_the_path_before_the_video_is_whole(folder: Path) -> None:
    path = folder / "a.mp4"
    with VideoWriter(path, WIDTH, HEIGHT, FPS, "") as writer:
        list(writer.write(grey(0.0)))
        assert not path.exists()
    assert list(folder.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error_in_words(folder: Path) -> None:
    path = folder / "nowhere" / "a.mp4"
    with pytest.raises(EngineError, match="could not be written") as caught:
        write(path, grey(0.0))
    assert str(path) in caught.value.why


def test_a_path_that_cannot_be_replaced_leaves_nothing_behind(folder: Path) -> None:
    (folder / "a.mp4").mkdir()
    with pytest.raises(EngineError, match="could not be written"):
        write(folder / "a.mp4", grey(0.0))
    assert [path.name for path in folder.iterdir()] == ["a.mp4"]


def test_checking_makes_the_folder_and_leaves_no_probe(folder: Path) -> None:
    check_writable(folder / "new" / "deep" / "a.mp4")
    assert list((folder / "new" / "deep").iterdir()) == []


def test_checking_refuses_what_cannot_be_written(folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "taken.mp4").mkdir()
    for path in (folder / "file" / "a.mp4", folder / "taken.mp4"):
        with pytest.raises(EngineError, match="cannot be written") as caught:
            check_writable(path)
        assert str(path) in caught.value.why


@pytest.mark.parametrize("length", [200, 240, 245, 250, 255, 300])
def test_a_name_that_passes_the_check_can_be_written(length: int, folder: Path) -> None:
    path = folder / f"{'x' * (length - 4)}.mp4"
    try:
        check_writable(path)
    except EngineError:
        assert length > 220  # hidden names may be longer, but not by much
        return
    write(path, grey(0.0))
    assert list(folder.iterdir()) == [path]


def test_the_same_frames_are_the_same_bytes_whatever_memory_held_before(folder: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 2 - 1
    wide = F.interpolate(coarse, (HEIGHT + 16, WIDTH + 16), mode="bicubic")[0]
    panned = [wide[:, step : step + HEIGHT, 2 * step : 2 * step + WIDTH] for step in range(8)]
    seen = set()
    for number in range(12):
        sizes = torch.randint(100, 60_000, (200,), generator=generator).tolist()
        garbage = [torch.full((size,), number * size % 251, dtype=torch.uint8) for size in sizes]
        del garbage
        write(folder / "a.mp4", torch.stack(panned, 1))
        seen.add((folder / "a.mp4").read_bytes())
    assert len(seen) == 1
