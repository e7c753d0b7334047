"""LoRAs: every naming, merged as computed by hand, beside codes, and refused where they misfit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.lora import LoraLinear, LoraReport, apply_loras
from engine.models.wan import WanTransformer, rope_table
from engine.ops.linear import QuantizedLinear
from engine.spec.architecture import DitArchitecture
from engine.spec.control import RunControl as StopEvent
from engine.spec.errors import Cancelled, CheckpointError
from engine.spec.events import Done, Failed, LoraApplied
from engine.spec.job import Lora
from engine.spec.precision import Precision, QuantCompute
from engine.stages import DIT
from tests.engine.support import load_all, make_job, on_meta, randomised, relative, run_all

ARCH = DitArchitecture(
    dim=32, ffn_dim=48, num_heads=2, num_layers=2, in_dim=16, out_dim=16, text_dim=24, freq_dim=32
)
RANK = 3
Q, FFN = "blocks.0.self_attn.q", "blocks.1.ffn.0"
DEMO_LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"


def network(seed: int = 0) -> WanTransformer:
    """A small DiT in float32."""
    model = randomised(WanTransformer(ARCH), seed)
    assert isinstance(model, WanTransformer)
    return model


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pair(rows: int = ARCH.dim, columns: int = ARCH.dim, seed: int = 1) -> tuple[Tensor, Tensor]:
    """The two matrices of a LoRA: down [rank, in] and up [out, rank]."""
    return random(RANK, columns, seed=seed), random(rows, RANK, seed=seed + 100)


def write(path: Path, state: Mapping[str, Tensor]) -> Path:
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    return path


def apply(model: WanTransformer, *loras: Lora, dtype: torch.dtype = torch.float32) -> LoraReport:
    """Apply LoRAs; gives the report of the last."""
    return applied(model, loras, dtype)[-1]


def applied(
    model: WanTransformer,
    loras: Sequence[Lora],
    dtype: torch.dtype = torch.float32,
    stop: StopEvent | None = None,
) -> list[LoraReport]:
    """Apply LoRAs to the end; gives all reports."""
    applying = apply_loras(model, loras, dtype, stop or StopEvent())
    while True:
        try:
            next(applying)
        except StopIteration as end:
            reports: list[LoraReport] = end.value
            return reports


def parameters(model: WanTransformer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def expect(model: WanTransformer, before: dict[str, Tensor], changed: Mapping[str, Tensor]) -> None:
    """Expect these parameters to have moved by this much, and all others to be as before."""
    for name, value in model.state_dict().items():
        if name in changed:
            assert changed[name].abs().max() > 1e-3
            assert relative(value, before[name] + changed[name]) < 1e-6, name
        else:
            assert torch.equal(value, before[name]), name


def refused(model: WanTransformer, *loras: Lora) -> str:
    """Expect a refusal that names the file; gives its words."""
    with pytest.raises(CheckpointError) as caught:
        apply(model, *loras)
    error = caught.value
    assert loras[-1].path.name in str(error)
    assert all((error.what, error.why, error.fix))
    return str(error)


@pytest.mark.parametrize("prefix", ["", "diffusion_model.", "model.diffusion_model.",
                                    "transformer.", "base_model.model."])  # fmt: skip
@pytest.mark.parametrize(
    ("down_name", "up_name"),
    [
        ("lora_A.weight", "lora_B.weight"),
        ("lora_down.weight", "lora_up.weight"),
        ("lora_A.default.weight", "lora_B.default.weight"),
        ("lora_down.default.weight", "lora_up.default.weight"),
    ],
)
def test_every_name_of_a_pair_is_merged(
    down_name: str, up_name: str, prefix: str, tmp_path: Path
) -> None:
    model = network()
    before = parameters(model)
    down, up = pair()
    state = {f"{prefix}{Q}.{down_name}": down, f"{prefix}{Q}.{up_name}": up}
    report = apply(model, Lora(write(tmp_path / "lora.safetensors", state)))
    assert report == LoraReport(tmp_path / "lora.safetensors", 1, ())
    expect(model, before, {f"{Q}.weight": up @ down})


def test_names_with_underscores_for_dots_are_merged(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    down, up = pair()
    flat = "lora_unet_" + Q.replace(".", "_")
    state = {f"{flat}.lora_down.weight": down, f"{flat}.lora_up.weight": up}
    assert apply(model, Lora(write(tmp_path / "lora.safetensors", state))).matched == 1
    expect(model, before, {f"{Q}.weight": up @ down})


def test_kohya_names_are_merged(tmp_path: Path) -> None:
    """musubi-tuner and ComfyUI's trainers write underscores for dots, behind `lora_unet_`."""
    model = network()
    before = parameters(model)
    down, up = pair()
    key = "lora_unet_blocks_0_self_attn_q"
    state = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
    apply(model, Lora(write(tmp_path / "lora.safetensors", state)))
    expect(model, before, {f"{Q}.weight": up @ down})


DIFFUSERS = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.0.attn1.to_out.0": "blocks.0.self_attn.o",
    "blocks.1.attn2.to_k": "blocks.1.cross_attn.k",
    "blocks.1.ffn.net.2": "blocks.1.ffn.2",
}


def test_diffusers_names_are_merged(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    state, changed = {}, {}
    for seed, (theirs, ours) in enumerate(DIFFUSERS.items()):
        down, up = pair(*before[f"{ours}.weight"].shape, seed=seed)
        state[f"transformer.{theirs}.lora_A.weight"] = down
        state[f"transformer.{theirs}.lora_B.weight"] = up
        changed[f"{ours}.weight"] = up @ down
    report = apply(model, Lora(write(tmp_path / "lora.safetensors", state)))
    assert (report.matched, report.unmatched) == (len(DIFFUSERS), ())
    expect(model, before, changed)


@pytest.mark.parametrize("theirs", DIFFUSERS)
def test_a_diffusers_lora_may_change_one_kind_of_layer(theirs: str, tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    name = f"{DIFFUSERS[theirs]}.weight"
    down, up = pair(*before[name].shape)
    state = {f"{theirs}.lora_A.weight": down, f"{theirs}.lora_B.weight": up}
    apply(model, Lora(write(tmp_path / "lora.safetensors", state)))
    expect(model, before, {name: up @ down})


@pytest.mark.parametrize("alpha", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_alpha_over_rank_and_strength_scale_a_pair(
    shape: tuple[int, ...], alpha: float, tmp_path: Path
) -> None:
    model = network()
    before = parameters(model)
    down, up = pair()
    state = {
        f"{Q}.lora_down.weight": down,
        f"{Q}.lora_up.weight": up,
        f"{Q}.alpha": torch.full(shape, alpha),
    }
    apply(model, Lora(write(tmp_path / "lora.safetensors", state), 0.7))
    expect(model, before, {f"{Q}.weight": 0.7 * alpha / RANK * (up @ down)})


def test_differences_of_weights_biases_and_modulations(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    keys = {
        "blocks.0.self_attn.q.diff": "blocks.0.self_attn.q.weight",
        "blocks.0.self_attn.q.diff_b": "blocks.0.self_attn.q.bias",
        "blocks.1.self_attn.norm_q.diff": "blocks.1.self_attn.norm_q.weight",
        "blocks.0.norm3.diff": "blocks.0.norm3.weight",
        "blocks.0.norm3.diff_b": "blocks.0.norm3.bias",
        "blocks.1.diff_m": "blocks.1.modulation",
        "head.diff_m": "head.modulation",
        "head.head.diff_b": "head.head.bias",
        "patch_embedding.diff": "patch_embedding.weight",
        "time_embedding.0.diff": "time_embedding.0.weight",
        "time_projection.1.diff_b": "time_projection.1.bias",
        "text_embedding.2.diff": "text_embedding.2.weight",
    }
    differences = {
        key: random(*before[name].shape, seed=seed) for seed, (key, name) in enumerate(keys.items())
    }
    state = {f"diffusion_model.{key}": value for key, value in differences.items()}
    report = apply(model, Lora(write(tmp_path / "lora.safetensors", state), 0.5))
    assert report.unmatched == ()
    assert report.matched == len({key.rpartition(".")[0] for key in keys})
    expect(model, before, {name: 0.5 * differences[key] for key, name in keys.items()})


def test_a_pair_and_differences_of_one_layer_add_up(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    down, up = pair(ARCH.ffn_dim, ARCH.dim)
    weight, bias = random(ARCH.ffn_dim, ARCH.dim, seed=5), random(ARCH.ffn_dim, seed=6)
    state = {f"{FFN}.lora_A.weight": down, f"{FFN}.lora_B.weight": up, f"{FFN}.diff": weight,
             f"{FFN}.diff_b": bias}  # fmt: skip
    apply(model, Lora(write(tmp_path / "lora.safetensors", state), 2.0))
    expect(model, before, {f"{FFN}.weight": 2 * (up @ down + weight), f"{FFN}.bias": 2 * bias})


def test_several_loras_add_up_each_with_its_strength(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    strengths = (0.8, -0.5, 1.5)
    changed = torch.zeros(ARCH.dim, ARCH.dim)
    loras = []
    for number, strength in enumerate(strengths):
        down, up = pair(seed=number)
        state = {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up}
        loras.append(Lora(write(tmp_path / f"{number}.safetensors", state), strength))
        changed += strength * (up @ down)
    reports = applied(model, loras)
    assert [report.path for report in reports] == [lora.path for lora in loras]
    expect(model, before, {f"{Q}.weight": changed})


def test_strength_zero_changes_nothing(tmp_path: Path) -> None:
    model = network()
    before = parameters(model)
    down, up = pair()
    state = {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up, f"{Q}.diff_b": random(ARCH.dim),
             "blocks.1.diff_m": random(1, 6, ARCH.dim)}  # fmt: skip
    report = apply(model, Lora(write(tmp_path / "lora.safetensors", state), 0.0))
    assert report.matched == 2
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_half_precision_network_is_merged_in_float32(tmp_path: Path) -> None:
    """The sum is rounded to bfloat16 once; the product is not rounded before it."""
    model = network().bfloat16()
    before = parameters(model)[f"{Q}.weight"]
    down, up = pair()
    state = {f"{Q}.lora_A.weight": down.bfloat16(), f"{Q}.lora_B.weight": up.bfloat16()}
    apply(model, Lora(write(tmp_path / "lora.safetensors", state), 0.3), dtype=torch.bfloat16)
    product = up.bfloat16().float() @ down.bfloat16().float()
    after = model.get_parameter(f"{Q}.weight")
    assert after.dtype == torch.bfloat16
    assert relative(after, before.float() + 0.3 * product) < 2**-8


def test_keys_that_find_no_layer_are_counted(tmp_path: Path) -> None:
    down, up = pair()
    state = {
        f"{Q}.lora_A.weight": down,
        f"{Q}.lora_B.weight": up,
        "blocks.9.self_attn.q.lora_A.weight": down,
        "blocks.9.self_attn.q.lora_B.weight": up,
        "blocks.0.cross_attn.k_img.diff_b": random(ARCH.dim),
        "something.else": random(4),
    }
    report = apply(network(), Lora(write(tmp_path / "lora.safetensors", state)))
    assert report.matched == 1
    assert report.ignored == ("something.else",)
    assert sorted((*report.unmatched, *report.ignored)) == sorted(
        name for name in state if not name.startswith(Q)
    )


def test_a_lora_that_matches_nothing_is_refused(tmp_path: Path) -> None:
    down, up = pair()
    state = {"lora_te_layers_0.lora_A.weight": down, "lora_te_layers_0.lora_B.weight": up}
    words = refused(network(), Lora(write(tmp_path / "lora.safetensors", state)))
    assert "lora_te_layers_0" in words


@pytest.mark.parametrize(
    ("rows", "columns"), [(ARCH.dim * 2, ARCH.dim * 2), (ARCH.dim, ARCH.dim * 2),
                          (ARCH.dim * 2, ARCH.dim)]
)  # fmt: skip
def test_a_lora_of_another_width_is_refused(rows: int, columns: int, tmp_path: Path) -> None:
    down, up = pair(rows, columns)
    state = {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up}
    words = refused(network(), Lora(write(tmp_path / "lora.safetensors", state)))
    assert Q in words
    assert str(ARCH.dim) in words


def test_two_halves_of_different_rank_are_refused(tmp_path: Path) -> None:
    state = {f"{Q}.lora_A.weight": random(2, ARCH.dim), f"{Q}.lora_B.weight": random(ARCH.dim, 3)}
    assert Q in refused(network(), Lora(write(tmp_path / "lora.safetensors", state)))


@pytest.mark.parametrize("half", ["lora_A.weight", "lora_up.weight"])
def test_half_a_pair_is_refused(half: str, tmp_path: Path) -> None:
    whole = pair()
    state = {f"{FFN}.{half}": random(ARCH.dim, ARCH.dim)}
    state |= {f"{Q}.lora_A.weight": whole[0], f"{Q}.lora_B.weight": whole[1]}
    assert FFN in refused(network(), Lora(write(tmp_path / "lora.safetensors", state)))


MISFITS = {
    "transposed": (f"{FFN}.diff", (ARCH.dim, ARCH.ffn_dim)),
    "wide": (f"{FFN}.diff", (ARCH.ffn_dim * 2, ARCH.dim * 2)),
    "bias": (f"{FFN}.diff_b", (ARCH.ffn_dim + 1,)),
    "modulation": ("blocks.1.diff_m", (1, 6, ARCH.dim * 2)),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_difference_of_another_width_is_never_applied_silently(
    misfit: str, tmp_path: Path
) -> None:
    """Refused by name, or told as unmatched; the rest of the file fits."""
    key, shape = MISFITS[misfit]
    down, up = pair(ARCH.ffn_dim, ARCH.dim)
    state = {f"{FFN}.lora_A.weight": down, f"{FFN}.lora_B.weight": up, key: random(*shape)}
    model = network()
    before = parameters(model)
    try:
        report = apply(model, Lora(write(tmp_path / "lora.safetensors", state)))
    except CheckpointError as error:
        assert "lora.safetensors" in str(error)  # noqa: PT017 - either answer is a good one
        return
    assert report.unmatched == (key,)
    expect(model, before, {f"{FFN}.weight": up @ down})


def test_a_damaged_lora_is_refused(tmp_path: Path) -> None:
    down, _ = pair()
    path = write(tmp_path / "lora.safetensors", {f"{Q}.lora_A.weight": down})
    path.write_bytes(path.read_bytes()[:-5])
    refused(network(), Lora(path))
    refused(network(), Lora(tmp_path / "absent.safetensors"))


def test_a_stop_event_ends_reading_a_lora(tmp_path: Path) -> None:
    down, up = pair()
    state = {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up}
    lora = Lora(write(tmp_path / "lora.safetensors", state))
    stop = StopEvent()
    stop.set()
    with pytest.raises(Cancelled):
        applied(network(), [lora], stop=stop)


# Beside codes: the demo model's own quantized files.


def demo_dit(root: Path, folder: Path, precision: Precision) -> WanTransformer:
    """The demo model's DiT, dequantized before its products."""
    job = make_job(root, folder / "a.mp4", precision=precision)
    model = on_meta(lambda: WanTransformer(job.architecture))
    load_all(model, DIT, job.dit.files, precision, compute=QuantCompute.DEQUANT)
    assert isinstance(model, WanTransformer)
    return model


def weights_of(layer: QuantizedLinear) -> Tensor:
    return layer.codes.float() * layer.weight_scale


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_beside_codes_a_layer_computes_what_merging_would(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    model = demo_dit(demo_model, tmp_path, precision)
    plain = model.get_submodule(FFN)
    assert isinstance(plain, QuantizedLinear)
    rows, columns = plain.out_features, plain.in_features
    merged, bias = weights_of(plain).clone(), plain.bias.clone()
    loras = []
    for number, strength in enumerate((0.8, -0.4)):
        down, up = pair(rows, columns, seed=number)
        diff, diff_b = random(rows, columns, seed=7 + number), random(rows, seed=9 + number)
        state = {f"{FFN}.lora_A.weight": down, f"{FFN}.lora_B.weight": up, f"{FFN}.diff": diff,
                 f"{FFN}.diff_b": diff_b, f"{FFN}.alpha": torch.tensor(6.0)}  # fmt: skip
        loras.append(Lora(write(tmp_path / f"{number}.safetensors", state), strength))
        merged += strength * (6 / RANK * (up @ down) + diff)
        bias += strength * diff_b
    assert apply(model, *loras).matched == 1
    layer = model.get_submodule(FFN)
    assert isinstance(layer, LoraLinear)
    hidden = random(2, 5, columns, seed=3)
    assert relative(layer(hidden), F.linear(hidden, merged, bias)) < 1e-5


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_beside_codes_the_network_computes_what_merging_would(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    model = demo_dit(demo_model, tmp_path, precision)
    arch = model.arch
    merged = WanTransformer(arch)
    state = {name: value for name, value in model.state_dict().items() if "scale" not in name}
    for name, layer in model.named_modules():
        if isinstance(layer, QuantizedLinear):
            del state[f"{name}.codes"]
            state[f"{name}.weight"] = weights_of(layer)
    merged.load_state_dict(state)
    merged.requires_grad_(False)
    rope = rope_table((2, 4, 4), arch.dim // arch.num_heads)
    inputs = (random(1, 16, 2, 8, 8), torch.tensor([637.0]), random(1, 512, arch.text_dim), rope)
    with torch.no_grad():
        plain = model(*inputs)
        lora = Lora(demo_model / DEMO_LORA, 0.8)
        assert apply(model, lora).matched == apply(merged, lora).matched == 2 * arch.num_layers
        changed = model(*inputs)
        assert relative(changed, merged(*inputs)) < 1e-4
    assert relative(changed, plain) > 1e-2


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8])
def test_beside_codes_strength_zero_changes_nothing(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    model = demo_dit(demo_model, tmp_path, precision)
    layer = model.get_submodule("blocks.0.self_attn.q")
    hidden = random(4, model.arch.dim)
    before = layer(hidden)
    apply(model, Lora(demo_model / DEMO_LORA, 0.0))
    assert torch.equal(model.get_submodule("blocks.0.self_attn.q")(hidden), before)


@pytest.mark.parametrize("key", ["lora", "diff", "diff_b"])
def test_beside_codes_another_width_is_refused_before_compute(
    key: str, demo_model: Path, tmp_path: Path
) -> None:
    model = demo_dit(demo_model, tmp_path, Precision.FP8)
    wide = 2 * model.arch.dim
    down, up = pair(wide, wide)
    state = {
        "lora": {f"{Q}.lora_A.weight": down, f"{Q}.lora_B.weight": up},
        "diff": {f"{Q}.diff": random(wide, wide)},
        "diff_b": {f"{Q}.diff_b": random(wide)},
    }[key]
    refused(model, Lora(write(tmp_path / "lora.safetensors", state)))


# Through the pipeline.


@pytest.mark.parametrize("precision", list(Precision))
def test_a_run_tells_what_its_lora_did(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.safetensors"
    path = tmp_path / "lora.safetensors"
    extra = {"blocks.99.self_attn.q.diff": torch.zeros(2)}
    save_file({**load_file(demo_model / DEMO_LORA), **extra}, path)
    job = make_job(
        demo_model, tmp_path / "a.mp4", precision=precision, tiny=True, save_tensors=kept,
        loras=(Lora(demo_model / DEMO_LORA, 0.5), Lora(path, 0.25)),
    )  # fmt: skip
    events = run_all(job)
    assert isinstance(events[-1], Done)
    told = [event for event in events if isinstance(event, LoraApplied)]
    layers = 2 * job.architecture.num_layers
    assert told == [
        LoraApplied(demo_model / DEMO_LORA, layers, 0),
        LoraApplied(path, layers, 1),
    ]


def test_a_run_with_a_lora_is_another_video_and_with_strength_zero_the_same(
    demo_model: Path, tmp_path: Path
) -> None:
    last = {}
    for strength in (None, 0.0, 0.5, 1.0):
        loras = () if strength is None else (Lora(demo_model / DEMO_LORA, strength),)
        kept = tmp_path / "kept.safetensors"
        job = make_job(demo_model, tmp_path / "a.mp4", tiny=True, save_tensors=kept, loras=loras)
        assert isinstance(run_all(job)[-1], Done)
        last[strength] = load_file(kept)["latents.step3"]
    assert torch.equal(last[None], last[0.0])
    assert 0 < relative(last[0.5], last[None]) < relative(last[1.0], last[None])


@pytest.mark.parametrize("precision", list(Precision))
def test_a_lora_of_a_wider_model_ends_a_run_in_words(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "wide.safetensors"
    wide = {
        name: torch.cat([value, value], dim=int("down" in name))
        for name, value in load_file(demo_model / DEMO_LORA).items()
    }
    save_file({name: value.contiguous() for name, value in wide.items()}, path)
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision, loras=(Lora(path),))
    last = run_all(job)[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, CheckpointError)
    assert "wide.safetensors" in str(last.error)
