"""The same DiT in the file formats people have, and files that must be refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.models.wan import WanTransformer, rope_table
from engine.ops.linear import QuantizedLinear
from engine.spec.architecture import DitArchitecture
from engine.spec.errors import EngineError
from engine.spec.events import Done, Failed, StepDone
from engine.spec.job import Weights
from engine.spec.keys import DIT_FROM_DIFFUSERS, rename
from engine.spec.precision import Precision, QuantCompute
from engine.stages import DIT
from lightx2v_tui.catalog import Component, Kind, component_at
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.jobs import Options
from lightx2v_tui.presets import Preset
from tests.engine.support import load_all, make_job, on_meta, randomised, relative, run_all

State = dict[str, Tensor]
BF16_FILE = Path("distill_models") / "distill_model.safetensors"
FP8_MAX = 448.0


@pytest.fixture(scope="session")
def plain(demo_model: Path) -> State:
    """The tensors of the demo model's original DiT, in Wan's names."""
    return load_file(demo_model / BF16_FILE)


def own_file(root: Path, folder: str, state: Mapping[str, Tensor], name: str = "") -> Path:
    """Make one file the only DiT of a folder of the model."""
    place = root / folder
    for old in (*place.glob("*.safetensors"), *place.glob("*.index.json")):
        old.unlink()
    path = place / (name or "diffusion_pytorch_model.safetensors")
    save_file({key: value.clone().contiguous() for key, value in state.items()}, path)
    return path


def loaded(component: Component, compute: QuantCompute = QuantCompute.DEQUANT) -> WanTransformer:
    """Load a DiT in float32 as a run does."""
    assert component.usable, component.problems
    assert component.architecture is not None
    assert component.precision is not None
    arch = component.architecture
    model = on_meta(lambda: WanTransformer(arch))
    load_all(model, DIT, component.files, component.precision, compute=compute)
    assert isinstance(model, WanTransformer)
    return model


@torch.no_grad()
def flow(model: WanTransformer) -> Tensor:
    """What a DiT makes of fixed inputs."""
    arch = model.arch
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, arch.in_dim, 2, 8, 8, generator=generator)
    context = torch.randn(1, arch.text_len, arch.text_dim, generator=generator)
    rope = rope_table((2, 4, 4), arch.dim // arch.num_heads)
    return model(latents, torch.tensor([750.0]), context, rope)


def by_hand(state: Mapping[str, Tensor], arch: DitArchitecture) -> WanTransformer:
    """A DiT with these weights, loaded by PyTorch."""
    model = WanTransformer(arch)
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model


def is_linear(name: str) -> bool:
    """The weight of a linear layer, wherever it is."""
    return name.endswith(".weight") and "norm" not in name and not name.startswith("patch_emb")


def one_scale(weight: Tensor) -> tuple[Tensor, Tensor]:
    """FP8 codes with one scale, as ComfyUI stores them."""
    scale = weight.float().abs().max() / FP8_MAX
    return (weight.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def comfy(state: State, style: str) -> tuple[State, State]:
    """A state dict in ComfyUI's scaled FP8, and what its weights mean."""
    stored: State = {}
    meaning: State = {}
    names = ("scale_weight", "scale_input") if style == "old" else ("weight_scale", "input_scale")
    for name, value in state.items():
        meaning[name] = value.float()
        if not is_linear(name):
            stored[name] = value.half() if style == "old" else value
            continue
        codes, scale = one_scale(value)
        path = name.removesuffix(".weight")
        stored |= {name: codes, f"{path}.{names[0]}": scale, f"{path}.{names[1]}": torch.ones(())}
        if style == "described":
            words = json.dumps({"format": "float8_e4m3fn"}).encode()
            stored[f"{path}.comfy_quant"] = torch.tensor(list(words), dtype=torch.uint8)
        meaning[name] = codes.float() * scale
    if style == "old":
        stored["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    return stored, meaning


PREFIXES = ["", "model.diffusion_model.", "diffusion_model."]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("style", ["old", "new", "described"])
def test_comfyui_scaled_fp8(
    style: str, prefix: str, plain: State, model_copy: Path, tmp_path: Path
) -> None:
    stored, meaning = comfy(plain, style)
    own_file(model_copy, "distill_fp8", {prefix + key: value for key, value in stored.items()})
    job = make_job(model_copy, tmp_path / "a.mp4", precision=Precision.FP8, tiny=True)
    component = component_at(job.dit.files[0], Kind.DIT)
    assert component.scheme == "fp8"
    model = loaded(component)
    linears = sum(isinstance(layer, QuantizedLinear) for layer in model.modules())
    assert linears == sum(is_linear(name) for name in plain)
    expected = flow(by_hand(meaning, job.architecture))
    assert relative(flow(model), expected) < 1e-4
    native = loaded(component, QuantCompute.NATIVE)
    assert 0 < relative(flow(native), expected) < 0.1
    assert isinstance(run_all(job)[-1], Done)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_changes_nothing(
    prefix: str, plain: State, model_copy: Path, tmp_path: Path
) -> None:
    own_file(model_copy, "distill_models", {prefix + key: value for key, value in plain.items()})
    job = make_job(model_copy, tmp_path / "a.mp4", tiny=True)
    model = loaded(component_at(job.dit.files[0], Kind.DIT))
    assert torch.equal(flow(model), flow(by_hand(plain, job.architecture)))
    assert isinstance(run_all(job)[-1], Done)


def diffusers_names(arch: DitArchitecture) -> dict[str, str]:
    """Wan's names to those of diffusers, from what diffusers' own model is called."""
    from diffusers import WanTransformer3DModel

    with torch.device("meta"):
        theirs = WanTransformer3DModel(
            patch_size=arch.patch_size, num_attention_heads=arch.num_heads,
            attention_head_dim=arch.dim // arch.num_heads, in_channels=arch.in_dim,
            out_channels=arch.out_dim, text_dim=arch.text_dim, freq_dim=arch.freq_dim,
            ffn_dim=arch.ffn_dim, num_layers=arch.num_layers, cross_attn_norm=True,
        )  # fmt: skip
    return {rename(DIT_FROM_DIFFUSERS, name): name for name in theirs.state_dict()}


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_diffusers_files(
    dtype: torch.dtype, shards: int, plain: State, model_copy: Path, tmp_path: Path
) -> None:
    job = make_job(model_copy, tmp_path / "a.mp4", tiny=True)
    names = diffusers_names(job.architecture)
    assert names.keys() == plain.keys()
    state = {names[key]: value.to(dtype) for key, value in plain.items()}
    own_file(model_copy, "distill_models", {}, "x.safetensors").unlink()
    keys = sorted(state)
    for number in range(shards):
        name = f"diffusion_pytorch_model-{number + 1:05}-of-{shards:05}.safetensors"
        part = {key: state[key] for key in keys[number::shards]}
        save_file(part, model_copy / "distill_models" / name)
    job = make_job(model_copy, tmp_path / "a.mp4", tiny=True)
    assert len(job.dit.files) == shards
    component = component_at(model_copy / "distill_models", Kind.DIT)
    assert torch.equal(flow(loaded(component)), flow(by_hand(plain, job.architecture)))
    assert isinstance(run_all(job)[-1], Done)


@pytest.mark.parametrize("codes", [torch.float8_e4m3fn, torch.int8])
def test_blocks_of_the_demo_mean_what_their_codes_and_scales_say(
    codes: torch.dtype, demo_model: Path, tmp_path: Path
) -> None:
    precision = Precision.INT8 if codes == torch.int8 else Precision.FP8
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision)
    assert len(job.dit.files) == job.architecture.num_layers + 1
    stored: State = {}
    for file in job.dit.files:
        stored |= load_file(file)
    meaning = {
        name: value.float() * stored.get(f"{name}_scale", torch.ones(()))
        for name, value in stored.items()
        if not name.endswith("_scale")
    }
    model = loaded(component_at(job.dit.files[0].parent, Kind.DIT))
    assert relative(flow(model), flow(by_hand(meaning, job.architecture))) < 1e-5


def refused(root: Path, output: Path, dit: Path, precision: Precision | None = None) -> str:
    """Expect a preset that names a DiT to be refused before the run; gives the words."""
    preset = Preset(model_path=root, dit=dit, dit_precision=precision, width=64, height=64)
    with pytest.raises(EngineError) as caught:
        jobs.plan(preset, Options(), output)
    assert all((caught.value.what, caught.value.why, caught.value.fix))
    return str(caught.value)


def change_blocks(folder: Path, change: Callable[[State], State]) -> None:
    for path in folder.glob("*.safetensors"):
        save_file(change(load_file(path)), path)


@pytest.mark.parametrize("folder", ["distill_fp8", "distill_int8"])
def test_codes_without_scales_are_refused_by_file_and_tensor(
    folder: str, model_copy: Path, tmp_path: Path
) -> None:
    place = model_copy / folder
    change_blocks(place, lambda state: {k: v for k, v in state.items() if "_scale" not in k})
    words = refused(model_copy, tmp_path / "a.mp4", place)
    assert "scale" in words
    assert re.search(r"block_\d+\.safetensors", words), words
    assert re.search(r"blocks\.\d+\.\w+\.\w+\.weight", words), words


def test_a_plain_cast_to_fp8_is_refused_by_file_and_tensor(
    plain: State, model_copy: Path, tmp_path: Path
) -> None:
    state = {k: v.to(torch.float8_e4m3fn) if is_linear(k) else v for k, v in plain.items()}
    path = own_file(model_copy, "distill_fp8", state, "wan2.1_fp8_e4m3fn.safetensors")
    words = refused(model_copy, tmp_path / "a.mp4", path)
    assert path.name in words
    assert "weight" in words
    assert "scale" in words


@pytest.mark.parametrize("said", [Precision.BF16, Precision.FP8])
def test_an_int8_file_named_as_another_is_refused(
    said: Precision, demo_model: Path, model_copy: Path, tmp_path: Path
) -> None:
    state: State = {}
    for file in (demo_model / "distill_int8").glob("*.safetensors"):
        state |= load_file(file)
    path = own_file(model_copy, "distill_models", state, "distill_model.safetensors")
    words = refused(model_copy, tmp_path / "a.mp4", path, said)
    assert str(path) in words
    assert "int8" in words
    assert said.value in words
    with pytest.raises(EngineError, match="bf16 DiT"):
        make_job(model_copy, tmp_path / "a.mp4")


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "no index"])
@pytest.mark.parametrize("absent", ["block_0", "block_2", "block_3", "non_block"])
def test_one_file_of_a_block_folder_missing(
    absent: str, indexed: bool, model_copy: Path, tmp_path: Path
) -> None:
    folder = model_copy / "distill_fp8"
    (folder / f"{absent}.safetensors").unlink()
    if not indexed:
        next(folder.glob("*.index.json")).unlink()
    words = refused(model_copy, tmp_path / "a.mp4", folder)
    number = absent.removeprefix("block_")
    expected = {"non_block": "patch_embedding", "block_3": "4 blocks, the files hold 3"}
    named = f"{absent}.safetensors" if indexed else expected.get(absent, f"blocks {number}")
    assert named in words


def test_two_precisions_in_one_folder_are_refused(model_copy: Path, tmp_path: Path) -> None:
    folder = model_copy / "distill_fp8"
    (model_copy / BF16_FILE).rename(folder / "distill_model.safetensors")
    words = refused(model_copy, tmp_path / "a.mp4", folder)
    assert "distill_model.safetensors" in words
    assert "block_" in words


def test_blocks_of_two_precisions_are_refused(model_copy: Path, tmp_path: Path) -> None:
    folder, other = model_copy / "distill_fp8", model_copy / "distill_int8"
    (other / "block_1.safetensors").replace(folder / "block_1.safetensors")
    words = refused(model_copy, tmp_path / "a.mp4", folder)
    assert "f8_e4m3" in words
    assert "i8" in words


NETWORKS = {
    "T5": ("models_t5_umt5-xxl-enc-bf16.pth", "blocks.1.ffn.fc1.weight", False),
    "DiT": ("distill_model.safetensors", "blocks.3.cross_attn.v.weight", False),
    "VAE": ("Wan2.1_VAE.pth", "decoder.middle.0.residual.2.weight", False),
    "tiny VAE": ("taew2_1.pth", "decoder.1.weight", True),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_nan_weights_end_a_run_that_names_the_network(
    network: str, model_copy: Path, tmp_path: Path
) -> None:
    name, tensor, tiny = NETWORKS[network]
    path = model_copy / "distill_models" / name
    state = torch.load(path) if path.suffix == ".pth" else load_file(path)
    state[tensor].view(-1)[0] = float("nan")
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    events = run_all(make_job(model_copy, tmp_path / "out" / "a.mp4", tiny=tiny))
    last = events[-1]
    assert isinstance(last, Failed)
    words = str(last.error)
    assert "not finite" in words
    assert network.removeprefix("tiny ") in words
    steps = sum(isinstance(event, StepDone) for event in events)
    assert steps == (4 if "VAE" in network else 0)
    if network == "DiT":
        assert "step 1 of 4" in words
    assert list((tmp_path / "out").iterdir()) == []


FLF2V = DitArchitecture(
    dim=32, ffn_dim=48, num_heads=2, num_layers=1, in_dim=36, out_dim=16, text_dim=24,
    freq_dim=32, image_dim=20, image_tokens=34, text_len=512,
)  # fmt: skip


def test_a_first_and_last_frame_model_is_recognised_and_computes(tmp_path: Path) -> None:
    reference = randomised(WanTransformer(FLF2V))
    assert isinstance(reference, WanTransformer)
    path = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({name: value.contiguous() for name, value in reference.state_dict().items()}, path)
    (tmp_path / "config.json").write_text(json.dumps({"num_heads": 2}))
    component = component_at(path, Kind.DIT)
    assert component.architecture == FLF2V
    assert component.architecture.task == "flf2v"
    model = loaded(component)
    inputs = (torch.randn(1, 36, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 512, 24),
              rope_table((1, 2, 2), 16), torch.randn(1, 34, 20))  # fmt: skip
    with torch.no_grad():
        assert torch.equal(model(*inputs), reference(*inputs))
        before = model(*inputs)
        model.img_emb.emb_pos.add_(1)
        assert not torch.equal(model(*inputs), before)


def test_a_first_and_last_frame_model_is_refused_in_words(model_copy: Path, tmp_path: Path) -> None:
    arch = replace(FLF2V, text_dim=64)
    state = randomised(WanTransformer(arch)).state_dict()
    path = own_file(model_copy, "distill_models", state)
    (path.parent / "config.json").write_text(json.dumps({"num_heads": 2}))
    assert "flf2v" in refused(model_copy, tmp_path / "a.mp4", path)


def test_weights_say_what_precision_they_are_expected_to_hold(demo_model: Path) -> None:
    """`Weights` of one precision never load as another, whoever made the job."""
    component = component_at(demo_model / "distill_fp8", Kind.DIT)
    assert component.architecture is not None
    arch = component.architecture
    for said in (Precision.BF16, Precision.INT8):
        weights = Weights(component.files, said)
        with pytest.raises(EngineError, match=f"not {said.value}"):
            load_all(on_meta(lambda: WanTransformer(arch)), DIT, weights.files, said)
