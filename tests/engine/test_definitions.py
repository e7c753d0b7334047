"""Rope, timesteps, masks, sizes and images against their definitions."""

from __future__ import annotations

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from engine.image import first_frame_mask, fit, read_image
from engine.models.wan import apply_rope, rope_table, timestep_embedding
from engine.spec.errors import EngineError
from engine.spec.job import SIZE_STEP, fit_area
from tests.engine.support import relative

GRIDS = [(1, 1, 1), (3, 4, 5), (2, 6, 3)]
HEAD_DIMS = [12, 64, 128]


def rotation(position: tuple[int, int, int], head_dim: int) -> Tensor:
    """Wan's definition: one complex number of length one for each pair, from time, height, width.

    Frequencies of an axis with d dimensions are 10000^(-2i/d); height and width have
    2 * (head_dim // 6) dimensions each, time the rest.
    """
    third = 2 * (head_dim // 6)
    numbers = []
    for place, dim in zip(position, (head_dim - 2 * third, third, third), strict=True):
        numbers += [cmath.exp(1j * place * 10000 ** (-2 * i / dim)) for i in range(dim // 2)]
    return torch.tensor(numbers, dtype=torch.complex128)


def positions(grid: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The patches of a grid in the order the DiT has them: width fastest."""
    frames, rows, columns = grid
    return [(f, r, c) for f in range(frames) for r in range(rows) for c in range(columns)]


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("grid", GRIDS)
def test_rope_is_a_rotation_by_complex_numbers(grid: tuple[int, int, int], head_dim: int) -> None:
    length = math.prod(grid)
    hidden = torch.randn(2, length, 3, head_dim)
    turned = torch.view_as_complex(hidden.double().unflatten(-1, (-1, 2)))  # [B, L, H, D/2]
    factors = torch.stack([rotation(position, head_dim) for position in positions(grid)])
    expected = torch.view_as_real(turned * factors[None, :, None]).flatten(-2)
    assert relative(apply_rope(hidden, rope_table(grid, head_dim)), expected) < 1e-6


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_rope_keeps_norms(head_dim: int) -> None:
    hidden = torch.randn(1, 24, 2, head_dim)
    turned = apply_rope(hidden, rope_table((2, 3, 4), head_dim))
    assert relative(turned.norm(dim=-1), hidden.norm(dim=-1)) < 1e-6
    assert torch.equal(turned[:, 0], hidden[:, 0])  # nothing turns at the origin
    assert not torch.allclose(turned[:, 1], hidden[:, 1])


PLACES = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2))


@given(st.integers(0, 2**31), PLACES, PLACES, PLACES)
@settings(max_examples=40, deadline=None)
def test_products_depend_on_the_distance_only(
    seed: int, here: tuple[int, int, int], there: tuple[int, int, int], by: tuple[int, int, int]
) -> None:
    head_dim, grid = 36, (5, 5, 5)
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, 1, 1, 1, head_dim, generator=generator)
    cos, sin = rope_table(grid, head_dim)

    def at(vector: Tensor, place: tuple[int, ...]) -> Tensor:
        index = int(np.ravel_multi_index(place, grid))
        return apply_rope(vector, (cos[index : index + 1], sin[index : index + 1]))

    moved_here = tuple(a + b for a, b in zip(here, by, strict=True))
    moved_there = tuple(a + b for a, b in zip(there, by, strict=True))
    before = (at(query, here) * at(key, there)).sum()
    after = (at(query, moved_here) * at(key, moved_there)).sum()
    assert float(after) == pytest.approx(float(before), abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rope_is_computed_in_float32_and_keeps_the_dtype(dtype: torch.dtype) -> None:
    hidden, rope = torch.randn(1, 24, 2, 64).to(dtype), rope_table((2, 3, 4), 64)
    turned = apply_rope(hidden, rope)
    assert turned.dtype == dtype
    assert torch.equal(turned, apply_rope(hidden.float(), rope).to(dtype))


@pytest.mark.parametrize("dim", [2, 32, 256])
def test_timesteps_are_sinusoids(dim: int) -> None:
    times = [0.0, 1.0, 250.0, 636.9, 999.0, 1000.0]
    half = dim // 2
    expected = torch.tensor(
        [
            [wave(t * 10000 ** (-i / half)) for wave in (math.cos, math.sin) for i in range(half)]
            for t in times
        ],
        dtype=torch.float64,
    )
    found = timestep_embedding(torch.tensor(times), dim)
    assert found.dtype == torch.float32
    assert found.shape == (len(times), dim)
    # 636.9 is rounded to float32 before; the largest angle is 1000
    assert (found.double() - expected).abs().max() < 1e-4


@given(st.integers(1, 30), st.integers(1, 20), st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_the_mask_is_the_definition_of_wan(frames: int, height: int, width: int) -> None:
    """Ones for the first frame, zeros for all others, the first counted four times, by fours."""
    count = 4 * (frames - 1) + 1
    by_frame = torch.ones(1, count, height, width)
    by_frame[:, 1:] = 0
    repeated = torch.cat([by_frame[:, :1].repeat_interleave(4, dim=1), by_frame[:, 1:]], dim=1)
    expected = repeated.view(1, frames, 4, height, width).transpose(1, 2)[0]
    assert torch.equal(first_frame_mask(frames, height, width), expected)


@pytest.mark.parametrize(
    ("image", "asked", "fitted"),
    [
        ((832, 480), (832, 480), (832, 480)),
        ((480, 832), (832, 480), (480, 832)),
        ((1920, 1080), (832, 480), (832, 464)),
        ((1080, 1920), (832, 480), (464, 832)),
        ((1000, 1000), (832, 480), (624, 624)),
        ((1280, 720), (1280, 720), (1280, 720)),
        ((10_000, 1), (64, 64), (6400, 16)),
    ],
)
def test_sizes_of_known_images(
    image: tuple[int, int], asked: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert fit_area(image, *asked) == fitted


SIDES = st.integers(64, 4096)
ASKED = st.integers(16, 128).map(lambda count: count * SIZE_STEP)


@given(SIDES, SIDES, ASKED, ASKED)
def test_sizes_keep_the_area_and_the_proportions(
    image_width: int, image_height: int, asked_width: int, asked_height: int
) -> None:
    width, height = fit_area((image_width, image_height), asked_width, asked_height)
    assert width % SIZE_STEP == height % SIZE_STEP == 0
    assert min(width, height) >= SIZE_STEP
    if min(width, height) > SIZE_STEP:  # each side was cut, by less than a step
        assert width * height <= asked_width * asked_height * (1 + 1e-6)
        exact = math.sqrt(asked_width * asked_height * image_width / image_height)
        assert 0 <= exact + 1e-3 - width < SIZE_STEP + 1e-3
        ratio = (width / height) / (image_width / image_height)
        assert 1 - SIZE_STEP / (width + SIZE_STEP) - 1e-6 < ratio < 1 + SIZE_STEP / height + 1e-6


@given(ASKED, ASKED)
def test_an_image_of_the_size_asked_for_keeps_it(width: int, height: int) -> None:
    assert fit_area((width, height), width, height) == (width, height)


def picture(width: int = 12, height: int = 8) -> np.ndarray:
    """Smooth colours, so that JPEG keeps them."""
    rows, columns = np.mgrid[0:height, 0:width]
    red, green = rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1)
    return np.stack([red, green, np.full_like(red, 90)], axis=-1).astype(np.uint8)


def expected_of(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def test_a_png_is_read_exactly(tmp_path: Path) -> None:
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.float32
    assert torch.allclose(image, expected_of(pixels), atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_pngs_become_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(picture()).convert(mode)
    image.save(tmp_path / "a.png")
    expected = expected_of(np.asarray(image.convert("RGB")))
    assert (read_image(tmp_path / "a.png") - expected).abs().max() < 0.02


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_read_nearly(options: dict[str, object], tmp_path: Path) -> None:
    pixels = picture(64, 48)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, **options)
    with Image.open(tmp_path / "a.jpg") as image:
        theirs = expected_of(np.asarray(image.convert("RGB")))
    assert (read_image(tmp_path / "a.jpg") - theirs).abs().mean() < 0.02
    assert (read_image(tmp_path / "a.jpg") - expected_of(pixels)).abs().mean() < 0.04


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_is_read(lossless: bool, tmp_path: Path) -> None:
    pixels = picture(64, 48)
    Image.fromarray(pixels).save(tmp_path / "a.webp", lossless=lossless, quality=95)
    bound = 0.01 if lossless else 0.06
    assert (read_image(tmp_path / "a.webp") - expected_of(pixels)).abs().mean() < bound


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\0" * 999]
)
def test_what_is_no_image_is_said_in_words(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(EngineError, match=r"a\.png"):
        read_image(path)


def test_a_missing_image_and_a_folder_are_said_in_words(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.png", tmp_path):
        with pytest.raises(EngineError, match=path.name):
            read_image(path)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_image_is_read_or_refused_never_worse(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        Image.fromarray(picture()).save(path)
        content = bytearray(path.read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=4)):
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        try:
            image = read_image(path)
        except EngineError as error:
            assert "a.png" in str(error)  # noqa: PT017 - either answer is a good one
        else:
            assert image.shape[0] == 3


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_truncated_png_is_refused(cut: float, tmp_path: Path) -> None:
    """A first frame whose lower half is grey would spoil minutes of compute."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(EngineError, match=r"a\.png"):
        read_image(path)


def test_fitting_is_bicubic_and_leaves_an_exact_size_alone() -> None:
    image = torch.rand(3, 32, 48) * 2 - 1
    assert fit(image, 32, 48) is image
    smaller = fit(image, 16, 32)
    assert smaller.shape == (3, 16, 32)
    flat = torch.full((3, 7, 9), 0.25)
    assert torch.allclose(fit(flat, 16, 16), torch.full((3, 16, 16), 0.25), atol=1e-6)
