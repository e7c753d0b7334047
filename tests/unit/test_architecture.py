"""Sizes of the networks are read from tensor shapes; what contradicts itself is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.demo import DIT, T5, TINY_VAE, VAE
from engine.spec.architecture import (
    DitArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)
from engine.spec.errors import CheckpointError
from engine.spec.header import read_header
from tests.unit.helpers import Table, dit, dit_rest
from tests.unit.helpers import t5 as t5_table

Shapes = dict[str, tuple[int, ...]]


def shapes_of(table: Table) -> Shapes:
    return {name: shape for name, (_, shape) in table.items()}


def test_the_demo_model_is_read_back_as_it_was_made(demo_model: Path) -> None:
    folder = demo_model / "distill_models"
    wan = read_header(folder / "distill_model.safetensors").shapes
    assert DitArchitecture.from_shapes(wan, {"num_heads": DIT.num_heads}) == DIT
    t5 = read_header(folder / "models_t5_umt5-xxl-enc-bf16.pth").shapes
    assert T5Architecture.from_shapes(t5) == T5
    assert VaeArchitecture.from_shapes(read_header(folder / "Wan2.1_VAE.pth").shapes) == VAE
    tiny = read_header(folder / "taew2_1.pth").shapes
    assert TinyVaeArchitecture.from_shapes(tiny) == TINY_VAE


def test_the_published_14b_model_has_40_heads_without_a_config() -> None:
    shapes = shapes_of(dit(1)) | {"patch_embedding.weight": (5120, 16, 1, 2, 2)}
    assert DitArchitecture.from_shapes(shapes, {}).num_heads == 40


def test_quantized_and_plain_weights_have_one_architecture() -> None:
    plain = DitArchitecture.from_shapes(shapes_of(dit(3)), {})
    coded = DitArchitecture.from_shapes(shapes_of(dit(3, "F8_E4M3")), {})
    assert plain == coded
    assert (plain.num_layers, plain.dim, plain.ffn_dim, plain.text_dim) == (3, 8, 16, 8)


def test_the_task_follows_from_the_tensors() -> None:
    text = DitArchitecture.from_shapes(shapes_of(dit(1)), {})
    image = DitArchitecture.from_shapes(shapes_of(dit(1, image=True)), {})
    last = shapes_of(dit(1, image=True)) | shapes_of(dit_rest(image=True, last_frame=True))
    assert (text.task, text.image_dim) == ("t2v", None)
    assert (image.task, image.in_dim, image.image_dim) == ("i2v", 36, 10)
    assert DitArchitecture.from_shapes(last, {}).task == "flf2v"


def test_config_says_what_shapes_cannot() -> None:
    config = {"num_heads": 4, "text_len": 77, "eps": 1e-5, "dim": "ignored"}
    found = DitArchitecture.from_shapes(shapes_of(dit(1)), config)
    assert (found.num_heads, found.text_len, found.eps) == (4, 77, 1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_heads", 0), ("num_heads", -1), ("num_heads", "2"), ("num_heads", 2.0),
        ("num_heads", True), ("num_heads", None), ("num_heads", [2]), ("num_heads", 3),
        ("num_heads", 8), ("text_len", 0), ("text_len", "512"), ("eps", "1e-6"), ("eps", -1),
        ("eps", 1), ("eps", True), ("eps", float("nan")),
    ],
)  # fmt: skip
def test_an_unusable_config_value_is_named(key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=key):
        DitArchitecture.from_shapes(shapes_of(dit(1)), {key: value})


@pytest.mark.parametrize(
    "name",
    [
        "patch_embedding.weight", "head.head.weight", "blocks.0.ffn.0.weight",
        "text_embedding.0.weight", "time_embedding.0.weight",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [None, (), (8,), (8, 0), (0, 8, 1, 1, 1), (1, 1, 1, 1, 1, 1)])
def test_a_needed_tensor_that_is_absent_or_misshapen_is_named(
    name: str, shape: tuple[int, ...] | None
) -> None:
    shapes = shapes_of(dit(1))
    if shape is None:
        del shapes[name]
    else:
        shapes[name] = shape
    with pytest.raises(CheckpointError) as caught:
        DitArchitecture.from_shapes(shapes, {})
    assert name in caught.value.what


@pytest.mark.parametrize("shape", [(5,), (5, 0), (2, 3, 4)])
def test_a_misshapen_image_embedding_is_refused(shape: tuple[int, ...]) -> None:
    shapes = shapes_of(dit(1, image=True)) | {"img_emb.proj.1.weight": shape}
    with pytest.raises(CheckpointError, match=r"img_emb\.proj\.1\.weight"):
        DitArchitecture.from_shapes(shapes, {})


@pytest.mark.parametrize("shape", [(), (5,), (1, 0, 10)])
def test_a_misshapen_position_of_images_is_refused(shape: tuple[int, ...]) -> None:
    shapes = shapes_of(dit(1, image=True)) | {"img_emb.emb_pos": shape}
    with pytest.raises(CheckpointError, match=r"img_emb\.emb_pos"):
        DitArchitecture.from_shapes(shapes, {})


@pytest.mark.parametrize(("gone", "said"), [((0,), "blocks 0 "), ((1, 3), "blocks 1, 3 ")])
def test_a_gap_between_blocks_is_named(gone: tuple[int, ...], said: str) -> None:
    shapes = {
        name: shape
        for name, shape in shapes_of(dit(5)).items()
        if not any(name.startswith(f"blocks.{layer}.") for layer in gone)
    }
    with pytest.raises(CheckpointError) as caught:
        DitArchitecture.from_shapes(shapes, {})
    assert said in caught.value.why


def test_a_model_without_blocks_is_incomplete() -> None:
    with pytest.raises(CheckpointError):
        DitArchitecture.from_shapes(shapes_of(dit_rest()), {})


def test_a_block_number_beyond_all_numbers_is_refused() -> None:
    shapes = shapes_of(dit(1)) | {f"blocks.{'9' * 5000}.ffn.0.weight": (1,)}
    with pytest.raises(CheckpointError):
        DitArchitecture.from_shapes(shapes, {})


def test_a_huge_block_number_does_not_fill_the_memory() -> None:
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from engine.spec.architecture import T5Architecture\n"
        "from engine.spec.errors import CheckpointError\n"
        "from tests.unit.helpers import t5\n"
        "shapes = {name: shape for name, (_, shape) in t5().items()}\n"
        "shapes['blocks.1000000000000.attn.q.weight'] = (1,)\n"
        "try:\n    T5Architecture.from_shapes(shapes)\n"
        "except CheckpointError:\n    print('refused')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_a_text_encoder_is_read() -> None:
    found = T5Architecture.from_shapes(shapes_of(t5_table("I8")))
    expected = T5Architecture(
        vocab_size=32, dim=8, dim_attn=12, dim_ffn=16, num_heads=2, num_layers=1, num_buckets=4
    )
    assert found == expected


@pytest.mark.parametrize("change", [{"conv1": 48}, {"head": 8}, {"latents": 48}])
def test_another_vae_is_refused_with_a_word_on_which_is_needed(change: dict[str, int]) -> None:
    shapes = {
        "decoder.conv1.weight": (change.get("conv1", 16), change.get("latents", 16), 3, 3, 3),
        "decoder.head.2.weight": (3, change.get("head", 4), 3, 3, 3),
    }
    with pytest.raises(CheckpointError, match=r"Wan 2\.1"):
        VaeArchitecture.from_shapes(shapes)


def test_the_tiny_vae_of_another_model_is_refused() -> None:
    shapes = {f"decoder.{i}.weight": (16, 16, 3, 3) for i in (8, 14, 20)}
    assert TinyVaeArchitecture.from_shapes(
        {**shapes, "decoder.1.weight": (32, 16, 3, 3)}
    ) == TinyVaeArchitecture((32, 16, 16, 16), 16)
    with pytest.raises(CheckpointError, match="taew2_1"):
        TinyVaeArchitecture.from_shapes({**shapes, "decoder.1.weight": (32, 48, 3, 3)})
