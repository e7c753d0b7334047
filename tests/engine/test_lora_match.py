"""What is foreseen of a LoRA from headers alone is what applying it does and tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from engine.lora import LoraReport, apply_loras, layers_of
from engine.models.wan import WanTransformer
from engine.spec.control import RunControl
from engine.spec.errors import CheckpointError
from engine.spec.job import Job, Lora
from engine.spec.lora_match import LoraMatch, lora_match
from engine.spec.precision import Precision
from engine.stages import DIT
from tests.engine.support import load_all, make_job, on_meta

DEMO_LORA = Path("loras") / "demo_cfg_step_distill_lora_rank4.safetensors"
GOLDEN = (
    Path(__file__).parents[3] / "shared" / "golden" / "Tiny-T2V-StepDistill-CfgDistill-LightX2V"
)


def loaded(job: Job) -> WanTransformer:
    model = on_meta(lambda: WanTransformer(job.architecture))
    load_all(model, DIT, job.dit.files, job.dit.precision)
    assert isinstance(model, WanTransformer)
    return model


def apply(model: WanTransformer, path: Path) -> LoraReport:
    """Apply one LoRA to the end."""
    applying = apply_loras(model, [Lora(path)], torch.float32, RunControl())
    while True:
        try:
            next(applying)
        except StopIteration as end:
            report: LoraReport = end.value[0]
            return report


def agree(match: LoraMatch, model: WanTransformer, path: Path) -> None:
    """Expect applying to count what the match counts, or to be refused as it says."""
    try:
        report = apply(model, path)
    except CheckpointError as error:
        assert match.problem == error.what  # noqa: PT017 - either way is right
        return
    assert match.problem == ""
    assert match.dim_fits
    counts = (report.matched, len(report.unmatched), len(report.ignored))
    assert (match.matched, match.unmatched, match.ignored) == counts


def write(path: Path, state: Mapping[str, Tensor]) -> Path:
    save_file({name: value.clone().contiguous() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("precision", list(Precision))
def test_the_demo_lora(precision: Precision, demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision)
    match = lora_match(demo_model / DEMO_LORA, job.dit.files)
    layers = 2 * job.architecture.num_layers
    keys = len(load_file(demo_model / DEMO_LORA))
    assert match == LoraMatch(layers, 0, 0, True, keys)
    assert match.matched_keys == keys
    agree(match, loaded(job), demo_model / DEMO_LORA)


@pytest.mark.golden
@pytest.mark.parametrize("precision", list(Precision))
def test_the_golden_lora(precision: Precision, golden: Path, tmp_path: Path) -> None:
    root = golden / "Tiny-T2V-StepDistill-CfgDistill-LightX2V"
    job = make_job(root, tmp_path / "a.mp4", precision=precision)
    for path in sorted((root / "loras").glob("*.safetensors")):
        match = lora_match(path, job.dit.files)
        assert match.matched > 0
        assert match.matched_keys == match.keys
        agree(match, loaded(job), path)


@pytest.mark.parametrize("precision", list(Precision))
def test_headers_give_the_layers_that_the_network_has(
    precision: Precision, demo_model: Path, tmp_path: Path
) -> None:
    """A difference for each parameter of the network matches, and one beside it does not."""
    job = make_job(demo_model, tmp_path / "a.mp4", precision=precision)
    model = loaded(job)
    state = {"blocks.99.self_attn.q.diff": torch.zeros(1)}
    endings = {"weight": "diff", "bias": "diff_b", "modulation": "diff_m"}
    layers = layers_of(model)
    for layer, parameters in layers.items():
        for name, shape in parameters.items():
            if name in endings:
                state[f"diffusion_model.{layer}.{endings[name]}"] = torch.zeros(shape)
    path = write(tmp_path / "all.safetensors", state)
    match = lora_match(path, job.dit.files)
    assert (match.matched, match.unmatched, match.dim_fits) == (len(layers), 1, True)
    agree(match, model, path)


def test_a_lora_that_was_applied_before_changes_no_counts(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4", precision=Precision.FP8)
    model, path = loaded(job), demo_model / DEMO_LORA
    assert apply(model, path) == apply(model, path)


def test_a_lora_of_a_wider_model_does_not_fit(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4")
    wide = {
        name: torch.cat([value, value], dim=int("down" in name))
        for name, value in load_file(demo_model / DEMO_LORA).items()
    }
    path = write(tmp_path / "wide.safetensors", wide)
    match = lora_match(path, job.dit.files)
    assert not match.dim_fits
    assert "another size" in match.problem
    agree(match, loaded(job), path)


def test_a_lora_for_something_else_fits_nothing(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4")
    path = write(tmp_path / "te.safetensors", {"lora_te_text.lora_up.weight": torch.zeros(2, 2)})
    match = lora_match(path, job.dit.files)
    assert (match.matched, match.unmatched, match.dim_fits) == (0, 1, True)
    assert "fits nothing" in match.problem
    agree(match, loaded(job), path)


@pytest.mark.parametrize("broken", ["absent", "cut", "dit"])
def test_what_cannot_be_read_is_said(broken: str, demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4")
    lora, dit = tmp_path / "lora.safetensors", job.dit.files
    if broken == "cut":
        lora.write_bytes((demo_model / DEMO_LORA).read_bytes()[:200])
    elif broken == "dit":
        lora, dit = demo_model / DEMO_LORA, (tmp_path / "gone.safetensors",)
    with pytest.raises(CheckpointError):
        lora_match(lora, dit)


def test_a_dit_that_is_replaced_is_read_again(demo_model: Path, tmp_path: Path) -> None:
    job = make_job(demo_model, tmp_path / "a.mp4")
    dit = tmp_path / "dit.safetensors"
    dit.write_bytes(job.dit.files[0].read_bytes())
    first = lora_match(demo_model / DEMO_LORA, (dit,))
    state = {name: value for name, value in load_file(dit).items() if "blocks.0." not in name}
    write(dit, state)
    assert lora_match(demo_model / DEMO_LORA, (dit,)).matched == first.matched - 2


PREFIXES = ["", "diffusion_model.", "model.diffusion_model.", "transformer.", "base_model.model.",
            "lora_unet_"]  # fmt: skip
LAYERS = ["blocks.0.self_attn.q", "blocks.1.ffn.0", "blocks.0.norm3", "blocks.1", "head",
          "head.head", "patch_embedding", "time_embedding.0", "blocks.9.ffn.0",
          "blocks.0.attn1.to_q", "blocks.0.ffn.1", "blocks", "other"]  # fmt: skip
ENDINGS = ["lora_A.weight", "lora_B.weight", "lora_down.weight", "lora_up.default.weight", "alpha",
           "diff", "diff_b", "diff_m", "bias", "dora_scale"]  # fmt: skip
NAMES = st.builds(
    lambda prefix, layer, ending, flat: (
        f"{prefix}{layer.replace('.', '_') if flat else layer}.{ending}"
    ),
    st.sampled_from(PREFIXES), st.sampled_from(LAYERS), st.sampled_from(ENDINGS), st.booleans(),
)  # fmt: skip
WHOLE_PAIRS = st.builds(
    lambda prefix, layer: (f"{prefix}{layer}.lora_A.weight", f"{prefix}{layer}.lora_B.weight"),
    st.sampled_from(PREFIXES), st.sampled_from(LAYERS),
)  # fmt: skip


@pytest.fixture(scope="module")
def demo_job(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    return make_job(demo_model, tmp_path_factory.mktemp("job") / "a.mp4", precision=Precision.INT8)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_generated_loras_agree(
    data: st.DataObject, demo_job: Job, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any mixture of names and shapes: counted alike, or refused alike, and never a crash."""
    names: Sequence[str] = [
        *data.draw(st.lists(NAMES, max_size=5)),
        *(name for pair in data.draw(st.lists(WHOLE_PAIRS, max_size=3)) for name in pair),
    ]
    model = loaded(demo_job)
    own = layers_of(model)
    state = {name: torch.ones(data.draw(shape_for(name, own))) for name in names}
    path = write(tmp_path_factory.mktemp("lora") / "lora.safetensors", state)
    agree(lora_match(path, demo_job.dit.files), model, path)


def shape_for(
    name: str, own: Mapping[str, Mapping[str, tuple[int, ...]]]
) -> st.SearchStrategy[tuple[int, ...]]:
    """Mostly the shape that fits, so that files that fit are among the drawn ones."""
    layer = next((layer for layer in sorted(own, key=len, reverse=True) if layer in name), None)
    parameters = own[layer] if layer is not None else {}
    odd = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    weight = parameters.get("weight", (4, 4))
    fitting: tuple[int, ...] = {
        "lora_A.weight": (2, weight[-1]), "lora_down.weight": (2, weight[-1]),
        "lora_B.weight": (weight[0], 2), "lora_up.default.weight": (weight[0], 2), "alpha": (),
        "diff": weight, "diff_b": parameters.get("bias", (4,)),
        "diff_m": parameters.get("modulation", (4,)),
    }.get(next((end for end in ENDINGS if name.endswith(f".{end}")), ""), (4,))  # fmt: skip
    return st.one_of(*[st.just(fitting)] * 9, odd)
