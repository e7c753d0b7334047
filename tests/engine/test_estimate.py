"""Estimates against what the networks do: weights kept, tensors alive at published sizes, RSS."""

from __future__ import annotations

import inspect
import statistics
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine import stages
from engine.models import vae as vae_module
from engine.models.clip import ClipVision
from engine.models.t5 import Umt5
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.models.wan import SENSITIVE, WanTransformer, keeps_float32
from engine.ops import linear as linears
from engine.pipeline import Engine, run
from engine.spec import activations
from engine.spec.activations import Linear, Products
from engine.spec.architecture import (
    ClipArchitecture,
    DitArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)
from engine.spec.control import RunControl as StopEvent
from engine.spec.estimate import Machine, estimate
from engine.spec.events import STAGES, BytesRead, Done, StageStarted
from engine.spec.footprint import FLOAT32_NAMES, PARTS, footprint
from engine.spec.header import read_header
from engine.spec.job import Previews, Weights
from engine.spec.memory import STAGES_OF
from engine.spec.precision import ComputeDtype, Precision
from tests.engine.support import make_job
from tests.unit.published import CLIP, I2V_14B, T2V_1_3B, T2V_14B

LOW, HIGH = 0.95, 1.15  # an estimate may be this far from what is measured
ROOMY = Machine(0, 0, 1 << 40)
SIZES = {"480p": (21, 60, 104), "720p": (21, 90, 160)}
DTYPES = {4: torch.float32, 2: torch.bfloat16}
MIB = 1 << 20


class Alive(TorchDispatchMode):
    """Bytes of all tensors made inside that are still alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.watched: dict[int, weakref.ref[Any]] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):  # a weight: it was there before
                self._watch(value.untyped_storage(), 0)
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor):
                self._watch(value.untyped_storage(), value.untyped_storage().nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _watch(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = size
            self.now += size
            self.watched[key] = weakref.ref(storage, lambda _: self._gone(key))

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)
        self.watched.pop(key, None)


class Fused(nn.Module):
    """Attention as fused kernels have it: nothing beside its result."""

    def forward(self, query: Tensor, _key: Tensor, _value: Tensor) -> Tensor:
        return torch.empty_like(query)


def assert_near(estimated: float, measured: float) -> None:
    print(f"\n{measured / MIB:.0f} MiB, estimated {estimated / MIB:.0f}", end="")
    assert LOW <= estimated / measured <= HIGH, f"{estimated / measured:.3f} times what it is"


def cast(model: nn.Module, dtype: torch.dtype, *, sensitive: bool = False) -> nn.Module:
    for name, parameter in model.named_parameters():
        if not (sensitive and keeps_float32(name)):
            parameter.data = parameter.data.to(dtype)
    return model.requires_grad_(False)


def meta_dit(arch: DitArchitecture, item: int, cls: type[nn.Module] | None) -> nn.Module:
    """A DiT without memory, its linears of a quantized class where one is given."""
    blocks = replace(arch, num_layers=2)  # every block takes the same
    model = cast(WanTransformer(blocks, Fused), DTYPES[item], sensitive=True)
    for name, layer in list(model.named_modules()):
        if cls is not None and name.startswith("blocks") and isinstance(layer, nn.Linear):
            model.set_submodule(name, cls(layer, torch.int8))
    return model


PRODUCTS = {Products.PLAIN: None, Products.EXACT: linears.Int8Linear,
            Products.DEQUANT: linears.DequantLinear}  # fmt: skip


@pytest.mark.parametrize("products", PRODUCTS)
@pytest.mark.parametrize("item", DTYPES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("arch", [T2V_14B, T2V_1_3B, I2V_14B], ids=["14B", "1.3B", "I2V"])
def test_the_dit_at_published_sizes(
    arch: DitArchitecture, size: str, item: int, products: Products
) -> None:
    time, height, width = SIZES[size]
    tokens, batch = time * height * width // 4, 2 if products is Products.PLAIN else 1
    with torch.device("meta"), torch.no_grad():
        model = meta_dit(arch, item, PRODUCTS[products])
        rope = tuple(torch.empty(tokens, arch.dim // arch.num_heads // 2) for _ in "cs")
        image = arch.image_dim and torch.empty(batch, 257, arch.image_dim)
        inputs = (torch.empty(batch, arch.in_dim, time, height, width), torch.empty(batch),
                  torch.empty(batch, arch.text_len, arch.text_dim), rope, image)  # fmt: skip
        with Alive() as alive:
            model(*inputs)
    linear = Linear(products, item, arch.dim * arch.ffn_dim, on_cpu=False)
    estimated = activations.dit(arch, tokens, batch, linear, loras=False)
    assert_near(estimated.alive, alive.peak)


@pytest.mark.parametrize("way", ["decode", "tiled", "encode"])
@pytest.mark.parametrize("item", DTYPES)
@pytest.mark.parametrize("size", [(3, 60, 104), (1, 60, 104), (4, 30, 32)])
def test_the_vae_at_published_sizes(size: tuple[int, int, int], item: int, way: str) -> None:
    arch, (time, height, width) = VaeArchitecture(96, 16), size
    with torch.device("meta"), torch.no_grad():
        vae = cast(WanVae(arch, with_encoder=True), DTYPES[4 if way == "encode" else item])
        latents = torch.empty(16, *size)
        image = torch.empty(3, 1, height * 8, width * 8)
        with Alive() as alive:
            if way == "encode":
                zeros = image.new_zeros(3, 4, height * 8, width * 8)
                vae.encode_chunks([image, *[zeros] * (time - 1)])
            else:
                for _ in vae.decode(latents) if way == "decode" else vae.decode_tiled(latents):
                    pass
    if way == "encode":
        estimated = activations.vae_encoder(arch, size, on_cpu=False)
    else:
        tiled = way == "tiled"
        estimated = activations.vae_decoder(arch, size, item, on_cpu=False, tiled=tiled)
    assert_near(estimated.alive, alive.peak)


@pytest.mark.parametrize("item", DTYPES)
def test_the_tiny_vae_at_published_sizes(item: int) -> None:
    arch = TinyVaeArchitecture((256, 128, 64, 64), 16)
    with torch.device("meta"), torch.no_grad():
        vae = cast(TinyVae(arch), DTYPES[item])
        with Alive() as alive:
            for _ in vae.decode(torch.empty(16, 3, 60, 104)):
                pass
    estimated = activations.tiny_decoder(arch, (3, 60, 104), item, on_cpu=False)
    assert_near(estimated.alive, alive.peak)


def test_the_encoders_at_published_sizes_never_take_more_than_estimated() -> None:
    """They are small beside their weights, so only the lower bound matters."""
    arch = T5Architecture(256384, 4096, 4096, 10240, 64, 2, 32)
    with torch.device("meta"), torch.no_grad():
        t5 = cast(Umt5(arch), torch.bfloat16)
        with Alive() as alive:
            t5(torch.zeros(512, dtype=torch.long))
        linear = Linear(Products.PLAIN, 2, 0, on_cpu=False)
        assert activations.t5(arch, 512, linear).alive >= LOW * alive.peak
        tower = cast(ClipVision(CLIP), torch.bfloat16)
        with Alive() as alive:
            tower(torch.empty(3, 224, 224))
    assert activations.clip(CLIP, linear).alive >= LOW * alive.peak


@pytest.mark.parametrize("dtype", [ComputeDtype.FLOAT32, ComputeDtype.BFLOAT16])
@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("tiny", [False, True])
def test_weights_kept_and_bytes_read_are_exact(
    precision: Precision, dtype: ComputeDtype, tiny: bool, demo_model: Path, tmp_path: Path
) -> None:
    job = make_job(
        demo_model, tmp_path / "a.mp4", precision=precision, tiny=tiny, compute_dtype=dtype
    )
    engine = Engine()
    events = list(run(job, StopEvent(), engine))
    assert isinstance(events[-1], Done)
    item = 4 if dtype is ComputeDtype.FLOAT32 else 2
    for kind, weights in (("t5", job.t5), ("dit", job.dit), ("vae", job.vae)):
        model = engine._loaded[kind].model
        kept = sum(value.nbytes for value in model.parameters())
        assert footprint(kind, weights).kept(item) == kept, kind
    read = {event.component: event.total for event in events if isinstance(event, BytesRead)}
    assert estimate(job, ROOMY).disk_read == sum(read.values())


@pytest.mark.parametrize("tiny", [False, True])
def test_a_tiny_vae_for_previews_is_counted(tiny: bool, demo_model: Path, tmp_path: Path) -> None:
    plain = make_job(demo_model, tmp_path / "a.mp4", tiny=tiny)
    weights = Weights((demo_model / "distill_models" / "taew2_1.pth",), Precision.BF16)
    job = replace(plain, preview=Previews.TINY_VAE, preview_vae=weights)
    engine = Engine()
    events = list(run(job, StopEvent(), engine))
    assert isinstance(events[-1], Done)
    stage, read = "", 0
    for event in events:
        stage = event.stage if isinstance(event, StageStarted) else stage
        if isinstance(event, BytesRead) and event.done == event.total:
            read += event.total
            assert event.component != "tiny VAE" or tiny or stage == "load_dit"
    assert estimate(job, ROOMY).disk_read == read
    kept = sum(value.nbytes for value in engine._loaded["preview_vae"].model.parameters())
    on_gpu = [replace(each, device="cuda:0") for each in (plain, job)]
    before, after = ({s.name: s.vram for s in estimate(each, ROOMY).stages} for each in on_gpu)
    assert after["denoise"] >= before["denoise"] + kept
    assert after["load_t5"] == before["load_t5"]
    latents = replace(on_gpu[0], preview=Previews.LATENTS)
    assert estimate(latents, ROOMY) == estimate(on_gpu[0], ROOMY)


@pytest.mark.golden
def test_weights_of_the_image_encoders_are_exact(golden: Path) -> None:
    folder = golden / "Tiny-I2V-LightX2V" / "original"
    clip, vae = next(folder.glob("*clip*")), folder / "Wan2.1_VAE.pth"
    shapes = footprint("clip", Weights((clip,), Precision.BF16)).shapes
    arch = ClipArchitecture.from_shapes(shapes)
    with torch.device("meta"):
        tower = ClipVision(arch)
        encoder = WanVae(
            VaeArchitecture.from_shapes(read_header(vae).shapes),
            with_encoder=True, with_decoder=False,
        )  # fmt: skip
    for kind, path, model in (("clip", clip, tower), ("vae_encoder", vae, encoder)):
        kept = sum(4 * value.numel() for value in model.parameters())
        assert footprint(kind, Weights((path,), Precision.BF16)).kept(4) == kept, kind


def test_what_spec_repeats_of_the_engine_is_the_same_there() -> None:
    assert FLOAT32_NAMES == SENSITIVE
    recipes = {"t5": stages.T5, "clip": stages.CLIP, "dit": stages.DIT,
               "vae_encoder": stages.VAE_ENCODER, "vae": stages.VAE_DECODER}  # fmt: skip
    for kind, part in PARTS.items():
        assert part.names is recipes[kind].names
        assert part.ignore == recipes[kind].ignore
    assert stages.TINY_VAE_DECODER.ignore == ("encoder.",)
    assert activations.WIDTHS == vae_module.WIDTHS
    tiles = inspect.signature(WanVae.decode_tiled).parameters
    assert (tiles["tile"].default, tiles["overlap"].default) == (
        activations.TILE, activations.TILE_OVERLAP,
    )  # fmt: skip
    for length in range(1, 200):
        starts = vae_module.tile_starts(length, activations.TILE, activations.TILE_OVERLAP)
        assert activations._tiles(length, activations.TILE) == len(starts)
    assert {stage for pair in STAGES_OF.values() for stage in pair} == set(STAGES) - {"prepare"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("dtype", [ComputeDtype.FLOAT32, ComputeDtype.BFLOAT16])
def test_resident_memory_of_the_tiny_model(
    dtype: ComputeDtype, demo_model: Path, tmp_path: Path
) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", compute_dtype=dtype)
    measured = statistics.median(resident(job) for _ in range(3))  # glibc's heap moves
    assert_near(estimate(job, ROOMY).ram_peak, measured)


PEAK = """
import base64, pickle, sys
from engine.spec.control import RunControl
from engine.pipeline import run
job = pickle.loads(base64.b64decode(sys.argv[1]))
last = list(run(job, RunControl()))[-1]
assert type(last).__name__ == "Done", last
for line in open("/proc/self/status"):
    if line.startswith("VmHWM:"):
        print(int(line.split()[1]) << 10)
"""


def resident(job: object) -> int:
    """Run a job in a process of its own; gives its peak resident memory in bytes."""
    import base64
    import pickle

    packed = base64.b64encode(pickle.dumps(job)).decode()
    done = subprocess.run(
        [sys.executable, "-c", PEAK, packed], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])
