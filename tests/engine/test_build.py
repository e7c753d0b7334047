"""Loading a component: refused whole and by name where anything is wrong, cast where right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.build import Recipe, make_cancellable
from engine.models.wan import WanTransformer, keeps_float32
from engine.ops.linear import DequantLinear, Fp8Linear, Int8Linear, QuantizedLinear
from engine.ops.quantize import per_channel
from engine.spec.architecture import DitArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import Cancelled
from engine.spec.keys import same_names
from engine.spec.precision import Precision, QuantCompute
from engine.stages import DIT
from tests.engine.support import (
    load_all,
    loading,
    on_meta,
    randomised,
    refused,
    relative,
)

RECIPE = Recipe("DiT", same_names, float32=lambda name: "norm" in name)
CODES = {Precision.FP8: torch.float8_e4m3fn, Precision.INT8: torch.int8}
IN, OUT = 16, 24


def build() -> nn.Module:
    """A linear and a norm, on the meta device."""
    return on_meta(lambda: nn.ModuleDict({"linear": nn.Linear(IN, OUT), "norm": nn.LayerNorm(OUT)}))


def plain() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "linear.weight": torch.randn(OUT, IN).bfloat16(),
        "linear.bias": torch.randn(OUT).bfloat16(),
        "norm.weight": torch.randn(OUT).bfloat16(),
        "norm.bias": torch.randn(OUT).bfloat16(),
    }


def quantized(codes: torch.dtype) -> dict[str, Tensor]:
    state = plain()
    state["linear.weight"], state["linear.weight_scale"] = per_channel(
        state["linear.weight"], codes
    )
    return state


def write(path: Path, state: Mapping[str, Tensor]) -> Path:
    save_file(dict(state), path)
    return path


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    state = plain()
    del state["linear.bias"]
    error = str(refused(build(), RECIPE, [write(tmp_path / "dit.safetensors", state)]))
    assert "linear.bias" in error
    assert tmp_path.name in error


def test_a_left_over_tensor_is_named(tmp_path: Path) -> None:
    state = {**plain(), "linear.extra": torch.zeros(2)}
    error = str(refused(build(), RECIPE, [write(tmp_path / "dit.safetensors", state)]))
    assert "linear.extra" in error
    assert tmp_path.name in error


@pytest.mark.parametrize("shape", [(OUT, IN + 1), (IN, OUT), (OUT * IN,), (OUT, IN, 1)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    state = {**plain(), "linear.weight": torch.zeros(shape)}
    error = str(refused(build(), RECIPE, [write(tmp_path / "dit.safetensors", state)]))
    assert "linear.weight" in error
    assert "dit.safetensors" in error
    assert str(list(shape)) in error


@pytest.mark.parametrize("codes", [*CODES.values(), torch.float8_e5m2])
def test_codes_without_a_scale_are_refused(codes: torch.dtype, tmp_path: Path) -> None:
    state = {**plain(), "linear.weight": torch.ones(OUT, IN).to(codes)}
    precision = Precision.INT8 if codes == torch.int8 else Precision.FP8
    if codes == torch.float8_e5m2:
        precision = Precision.BF16  # what a catalog that knows only e4m3 would say
    file = write(tmp_path / "dit.safetensors", state)
    error = str(refused(build(), RECIPE, [file], precision))
    assert "linear.weight" in error
    assert "dit.safetensors" in error


@pytest.mark.parametrize("codes", CODES.values())
def test_codes_in_a_norm_are_refused(codes: torch.dtype, tmp_path: Path) -> None:
    state = {**plain(), "norm.weight": torch.ones(OUT).to(codes)}
    state["norm.weight_scale"] = torch.ones(OUT, 1)
    file = write(tmp_path / "dit.safetensors", state)
    precision = next(key for key, value in CODES.items() if value == codes)
    assert "norm.weight" in str(refused(build(), RECIPE, [file], precision))


@pytest.mark.parametrize("shape", [(IN, 1), (1, OUT), (OUT, 2), (2,)])
def test_a_scale_of_a_wrong_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    state = {**quantized(torch.int8), "linear.weight_scale": torch.ones(shape)}
    file = write(tmp_path / "dit.safetensors", state)
    error = str(refused(build(), RECIPE, [file], Precision.INT8))
    assert "linear.weight_scale" in error
    assert "dit.safetensors" in error


def test_a_tensor_in_two_files_is_named(tmp_path: Path) -> None:
    first = write(tmp_path / "block_0.safetensors", plain())
    second = write(tmp_path / "block_1.safetensors", {"norm.bias": torch.zeros(OUT)})
    error = str(refused(build(), RECIPE, [first, second]))
    assert all(part in error for part in ("norm.bias", "block_0", "block_1"))


@pytest.mark.parametrize(
    ("stored", "said"),
    [("bf16", Precision.FP8), ("bf16", Precision.INT8), ("fp8", Precision.BF16),
     ("fp8", Precision.INT8), ("int8", Precision.FP8)],
)  # fmt: skip
def test_another_precision_than_said_is_refused(
    stored: str, said: Precision, tmp_path: Path
) -> None:
    state = plain() if stored == "bf16" else quantized(CODES[Precision(stored)])
    file = write(tmp_path / "dit.safetensors", state)
    error = str(refused(build(), RECIPE, [file], said))
    assert said.value in error
    assert stored in error
    assert tmp_path.name in error


def test_a_mixture_of_precisions_is_refused(tmp_path: Path) -> None:
    def pair() -> nn.Module:
        return nn.ModuleDict({"a": nn.Linear(IN, OUT), "b": nn.Linear(IN, OUT)})

    state: dict[str, Tensor] = {}
    for name, codes in (("a", torch.int8), ("b", torch.float8_e4m3fn)):
        weight, scale = per_channel(torch.randn(OUT, IN), codes)
        state |= {f"{name}.weight": weight, f"{name}.weight_scale": scale}
        state[f"{name}.bias"] = torch.zeros(OUT)
    file = write(tmp_path / "dit.safetensors", state)
    error = refused(on_meta(pair), RECIPE, [file], Precision.FP8)
    assert "mixture" in str(error)


def test_a_dtype_the_engine_does_not_compute_is_refused_before_reading(tmp_path: Path) -> None:
    state = {**plain(), "norm.weight": torch.zeros(OUT, dtype=torch.uint16)}
    error = str(refused(build(), RECIPE, [write(tmp_path / "dit.safetensors", state)]))
    assert "norm.weight" in error
    assert "dit.safetensors" in error
    assert "U16" in error


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("precision", [Precision.BF16, *CODES])
def test_dtypes_of_a_network_in_bfloat16(precision: Precision, suffix: str, tmp_path: Path) -> None:
    state = quantized(CODES[precision]) if precision.quantized else plain()
    file = tmp_path / f"dit.{suffix}"
    torch.save(state, file) if suffix == "pth" else save_file(state, file)
    model = build()
    load_all(model, RECIPE, [file], precision, dtype=torch.bfloat16)
    found = {name: parameter.dtype for name, parameter in model.named_parameters()}
    linear = (
        {"linear.codes": CODES[precision], "linear.weight_scale": torch.float32}
        if precision.quantized
        else {"linear.weight": torch.bfloat16}
    )
    assert found == {
        **linear,
        "linear.bias": torch.bfloat16,
        "norm.weight": torch.float32,
        "norm.bias": torch.float32,
    }
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_bfloat16_keeps_the_sensitive_parts_of_the_dit_in_float32(tmp_path: Path) -> None:
    arch = DitArchitecture(
        dim=24, ffn_dim=32, num_heads=2, num_layers=1, in_dim=36, out_dim=16, text_dim=16,
        freq_dim=32, image_dim=20,
    )  # fmt: skip
    file = write(
        tmp_path / "dit.safetensors", randomised(WanTransformer(arch)).bfloat16().state_dict()
    )
    model = on_meta(lambda: WanTransformer(arch))
    load_all(model, DIT, [file], dtype=torch.bfloat16)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    wide = {name for name, value in model.named_parameters() if value.dtype == torch.float32}
    assert wide == {name for name, _ in model.named_parameters() if keeps_float32(name)}
    for part in ("blocks.0.modulation", "blocks.0.self_attn.norm_q.weight", "head.modulation",
                 "blocks.0.norm3.weight", "time_embedding.0.weight", "time_projection.1.weight",
                 "img_emb.proj.0.weight", "img_emb.proj.4.bias"):  # fmt: skip
        assert part in wide
    for part in (
        "blocks.0.self_attn.q.weight",
        "blocks.0.ffn.0.bias",
        "head.head.weight",
        "patch_embedding.weight",
        "text_embedding.0.weight",
        "img_emb.proj.1.bias",
    ):
        assert part not in wide


@pytest.mark.parametrize("compute", list(QuantCompute))
@pytest.mark.parametrize("precision", CODES)
def test_codes_become_the_linear_that_was_asked_for(
    precision: Precision, compute: QuantCompute, tmp_path: Path
) -> None:
    model = build()
    file = write(tmp_path / "dit.safetensors", quantized(CODES[precision]))
    load_all(model, RECIPE, [file], precision, compute=compute)
    native = Fp8Linear if precision is Precision.FP8 else Int8Linear
    expected = DequantLinear if compute is QuantCompute.DEQUANT else native
    assert type(model.get_submodule("linear")) is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(OUT, 1), (OUT,)])
def test_scales_per_channel_mean_the_same_in_every_shape(
    shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    state = quantized(torch.int8)
    scale = state["linear.weight_scale"].to(dtype)
    state["linear.weight_scale"] = scale.reshape(shape)
    linear = _linear(tmp_path, state)
    assert torch.equal(linear.weight_scale, scale.float())
    hidden = torch.randn(5, IN)
    expected = hidden.double() @ (linear.codes.double() * scale.double()).t() + linear.bias
    assert relative(linear(hidden), expected) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_scale_serves_all_channels(
    shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    state = {**quantized(torch.int8), "linear.weight_scale": torch.full(shape, 0.25, dtype=dtype)}
    linear = _linear(tmp_path, state)
    assert torch.equal(linear.weight_scale, torch.full((OUT, 1), 0.25))
    assert linear.weight_scale.dtype == torch.float32
    hidden = torch.randn(5, IN)
    expected = hidden.double() @ (linear.codes.double() * 0.25).t() + linear.bias
    assert relative(linear(hidden), expected) < 0.02


def _linear(folder: Path, state: Mapping[str, Tensor]) -> QuantizedLinear:
    model = build()
    load_all(model, RECIPE, [write(folder / "dit.safetensors", state)], Precision.INT8)
    linear = model.get_submodule("linear")
    assert isinstance(linear, QuantizedLinear)
    return linear


def test_values_arrive_unchanged_and_bytes_add_up(tmp_path: Path) -> None:
    state, model = plain(), build()
    events = load_all(model, RECIPE, [write(tmp_path / "dit.safetensors", state)])
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, state[name].float())
    done = [event.done for event in events]
    assert done == sorted(done)
    assert done[-1] == events[-1].total == sum(value.nbytes for value in state.values())
    assert {(event.component, event.file) for event in events} == {("DiT", "dit.safetensors")}


def test_what_the_recipe_ignores_is_not_read(tmp_path: Path) -> None:
    recipe = Recipe("VAE", same_names, ignore=("encoder.",))
    state = {**plain(), "encoder.weight": torch.zeros(1000)}
    events = load_all(build(), recipe, [write(tmp_path / "vae.safetensors", state)])
    assert events[-1].done == sum(value.nbytes for value in plain().values())


def test_a_stop_event_ends_loading(tmp_path: Path) -> None:
    stop = StopEvent()
    events = loading(build(), RECIPE, [write(tmp_path / "a.safetensors", plain())], stop=stop)
    next(events)
    stop.set()
    with pytest.raises(Cancelled):
        next(events)


def test_a_stop_event_ends_a_network_at_its_next_layer() -> None:
    stop = StopEvent()
    blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    blocks[0].register_forward_hook(lambda *_: stop.set())
    make_cancellable(blocks, stop.is_set)
    ran: list[int] = []
    blocks[1].register_forward_hook(lambda *_: ran.append(1))
    with pytest.raises(Cancelled):
        blocks(torch.zeros(1, 2))
    assert not ran
