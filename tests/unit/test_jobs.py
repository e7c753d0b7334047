"""From a preset to a job: every file is found and every number checked before the engine runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from engine.spec.errors import CheckpointError, EngineError, JobError
from engine.spec.job import Job, Lora, Previews, StepDistill
from engine.spec.precision import ComputeDtype, Precision
from lightx2v_tui.catalog import inspect_root
from lightx2v_tui.commands.run import find_preset
from lightx2v_tui.launch.choices import Choice, preset_for
from lightx2v_tui.launch.jobs import Options, Plan, check_place, default_options, plan
from lightx2v_tui.presets import Preset, PresetError, parse, read, to_json
from lightx2v_tui.presets.root import on_model
from tests.unit.helpers import gpu, write_root

BF16, FP8, INT8 = Precision.BF16, Precision.FP8, Precision.INT8
OUTPUT = Path("/out/video.mp4")


def preset_of(model: Path, dit: Precision = FP8, *, tiny: bool = False) -> Preset:
    root = inspect_root(model)
    assert root is not None
    return preset_for(root, Choice(dit, dit, tiny_vae=tiny))


def planned(preset: Preset) -> Plan:
    return plan(preset, Options(), OUTPUT)


def refused(preset: Preset, error: type[EngineError] = CheckpointError) -> EngineError:
    with pytest.raises(EngineError) as caught:
        planned(preset)
    assert type(caught.value) is error
    assert caught.value.why
    assert caught.value.fix
    return caught.value


def files(job: Job) -> list[Path]:
    return [*job.dit.files, *job.t5.files, *job.vae.files, job.tokenizer / "tokenizer.json"]


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("tiny", [True, False])
def test_a_planned_job_has_every_file(demo_model: Path, precision: Precision, tiny: bool) -> None:
    result = planned(preset_of(demo_model, precision, tiny=tiny))
    job = result.job
    assert all(path.is_file() for path in files(job))
    assert (job.dit.precision, job.t5.precision) == (precision, precision)
    assert len(job.dit.files) == (1 if precision is BF16 else 5)
    assert job.tiny_vae is tiny
    assert job.vae.files[0].name == ("taew2_1.pth" if tiny else "Wan2.1_VAE.pth")
    assert (job.width, job.height, job.frames, job.fps, job.seed) == (832, 480, 81, 16, 42)
    assert job.schedule.timesteps == (1000, 750, 500, 250)
    assert job.output == OUTPUT
    assert result.notes == ()


def test_a_plan_survives_being_written_and_read(demo_model: Path) -> None:
    first = planned(preset_of(demo_model))
    again = planned(parse(json.dumps(to_json(first.preset)), "p.json"))
    assert replace(again.job, settings="") == replace(first.job, settings="")
    assert json.loads(again.job.settings) == json.loads(first.job.settings)
    assert json.loads(first.job.settings) == to_json(first.preset)


@pytest.mark.parametrize(
    ("card", "expected"),
    [(gpu((9, 0)), FP8), (gpu((8, 6)), INT8), (gpu((7, 0)), BF16), (None, BF16)],
)
def test_a_preset_of_a_model_path_alone_is_completed_for_the_gpu(
    demo_model: Path, card: object, expected: Precision
) -> None:
    result = plan(Preset(model_path=demo_model), Options(), OUTPUT, card)  # type: ignore[arg-type]
    assert result.job.dit.precision is expected
    assert all(path.is_file() for path in files(result.job))
    assert result.preset.vae is not None


def test_what_the_preset_says_outweighs_the_recommendation(demo_model: Path) -> None:
    said = Preset(
        model_path=demo_model, dit_precision=INT8, t5_precision=FP8, use_tiny_vae=True,
        timesteps=(1000, 500), shift=3.0, width=256, height=160, frames=5, fps=8, seed=0,
        prompt="", negative_prompt="blurry",
    )  # fmt: skip
    job = planned(said).job
    assert (job.dit.precision, job.t5.precision, job.tiny_vae) == (INT8, FP8, True)
    assert (job.schedule.timesteps, job.schedule.shift) == ((1000, 500), 3.0)
    assert (job.width, job.height, job.frames, job.fps, job.seed) == (256, 160, 5, 8, 0)
    assert (job.prompt, job.negative_prompt) == ("", "blurry")


def test_the_guides_config_works_on_a_model_root(demo_model: Path) -> None:
    text = """{
        "mm_config": {"mm_type": "W-fp8-channel-sym-A-fp8-channel-sym-dynamic-Vllm"},  // DIT
        "t5_quantized": true,
        "t5_quant_scheme": "fp8",
    }"""
    job = planned(on_model(parse(text, "guide.json"), demo_model)).job
    assert (job.dit.precision, job.t5.precision) == (FP8, FP8)
    assert job.dit.files[0].parent == demo_model / "distill_fp8"


def test_an_explicit_path_decides_its_own_precision(demo_model: Path) -> None:
    said = Preset(model_path=demo_model, dit=demo_model / "distill_int8", t5_precision=BF16)
    result = planned(said)
    assert result.job.dit.precision is INT8
    assert result.preset.dit_precision is INT8


def test_explicit_files_need_no_model_path(demo_model: Path) -> None:
    full = preset_of(demo_model)
    alone = replace(full, model_path=None, tokenizer=None)
    assert planned(alone).job.tokenizer == demo_model / "distill_fp8" / "google" / "umt5-xxl"


@pytest.mark.parametrize("field", ["dit", "t5"])
def test_an_explicit_path_of_another_precision_than_said_is_refused(
    demo_model: Path, field: str
) -> None:
    other = preset_of(demo_model, INT8)
    error = refused(replace(preset_of(demo_model), **{field: getattr(other, field)}), JobError)
    assert "not fp8" in error.what
    assert "int8" in error.why


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "block_1.safetensors").unlink(), "block_1.safetensors"),
        (lambda folder: os.truncate(folder / "block_1.safetensors", 3000), "truncated"),
        (lambda folder: (folder / "non_block.safetensors").unlink(), "non_block.safetensors"),
        (lambda folder: (folder / "Wan2.1_VAE.pth").unlink(), "Wan2.1_VAE.pth"),
        (lambda folder: os.truncate(folder / "Wan2.1_VAE.pth", 500), "Wan2.1_VAE.pth"),
        (lambda folder: (folder / "models_t5_umt5-xxl-enc-fp8.pth").unlink(), "missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: shutil.rmtree(folder / "google"), "tokenizer"),
        (shutil.rmtree, "distill_fp8"),
    ],
)
def test_a_missing_or_broken_piece_is_named_before_anything_runs(
    model_copy: Path, break_it: Callable[[Path], object], said: str
) -> None:
    folder = model_copy / "distill_fp8"
    vae = folder / "Wan2.1_VAE.pth"
    preset = replace(preset_of(model_copy), model_path=None, tokenizer=None, vae=vae)
    break_it(folder)
    assert said in str(refused(preset))


def test_a_model_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    error = refused(Preset(model_path=tmp_path / "gone"))
    assert str(tmp_path / "gone") in error.why
    assert "--model" in error.fix


def test_a_folder_that_is_no_model_says_what_it_lacks(tmp_path: Path) -> None:
    error = refused(Preset(model_path=tmp_path))
    assert "DiT" in error.what
    assert "scan" in error.fix


def test_an_empty_preset_says_how_to_name_a_model() -> None:
    assert "--model" in refused(Preset()).fix


@pytest.mark.parametrize(("wanted", "made"), [(80, 77), (2, 1), (4, 1), (82, 81)])
def test_frames_are_rounded_down_with_a_note(demo_model: Path, wanted: int, made: int) -> None:
    result = planned(replace(preset_of(demo_model), frames=wanted))
    assert (result.job.frames, result.preset.frames) == (made, made)
    (note,) = result.notes
    assert str(wanted) in note
    assert str(made) in note


@pytest.mark.parametrize(
    ("field", "value"),
    [("frames", 0), ("frames", -7), ("height", 481), ("width", 0), ("fps", 0), ("seed", -1),
     ("timesteps", (250, 1000)), ("shift", 0.0)],
)  # fmt: skip
def test_numbers_that_no_video_has_are_refused(demo_model: Path, field: str, value: object) -> None:
    refused(replace(preset_of(demo_model), **{field: value}), JobError)


def test_notes_of_the_preset_are_kept(demo_model: Path) -> None:
    text = json.dumps({"model_path": str(demo_model), "infer_step": 4})
    assert "infer_steps" in planned(parse(text, "p.json")).notes[0]


def test_an_image_model_without_an_image_is_refused(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"distill_fp8": "fp8"}, image=True)
    refused(Preset(model_path=root), JobError)


def test_a_model_of_many_steps_never_gets_the_distilled_schedule(tmp_path: Path) -> None:
    root = write_root(tmp_path / "Model", {"fp8": "fp8"})
    for preset in (Preset(model_path=root), preset_of(root)):
        with suppress(JobError):
            assert not isinstance(planned(preset).job.schedule, StepDistill)


def test_a_plan_can_be_given_another_seed_and_place(demo_model: Path, tmp_path: Path) -> None:
    result = planned(preset_of(demo_model))
    moved = result.with_output(tmp_path / "b.mp4").with_seed(7)
    assert (moved.job.output, moved.job.seed) == (tmp_path / "b.mp4", 7)
    settings = json.loads(moved.job.settings)["lightx2v_tui"]
    assert (settings["output"], settings["seed"]) == (str(tmp_path / "b.mp4"), 7)
    assert replace(moved.job, output=OUTPUT, seed=42, settings="") == replace(
        result.job, settings=""
    )
    with pytest.raises(JobError):
        result.with_seed(-1)


def test_a_preset_moves_to_another_model(demo_model: Path, model_copy: Path) -> None:
    outside = demo_model / "distill_models" / "Wan2.1_VAE.pth"
    moved = on_model(preset_of(demo_model), model_copy)
    job = planned(moved).job
    assert all(path.is_relative_to(model_copy) for path in files(job))
    assert job.dit.precision is FP8
    kept = on_model(replace(preset_of(demo_model), model_path=model_copy, vae=outside), model_copy)
    assert kept.vae == outside


def test_a_preset_of_a_linked_model_moves_too(
    demo_model: Path, model_copy: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(demo_model, target_is_directory=True)
    job = planned(on_model(preset_of(link), model_copy)).job
    assert all(path.is_relative_to(model_copy) for path in files(job))


def test_a_model_named_from_here_is_moved_to_as_an_absolute_path(
    demo_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo_model.parent)
    assert on_model(Preset(), Path(demo_model.name)).model_path == demo_model


@pytest.mark.parametrize(
    ("card", "device", "dtype"),
    [
        (None, "cpu", ComputeDtype.BFLOAT16),
        (gpu((9, 0)), "cuda:0", ComputeDtype.BFLOAT16),
        (gpu((8, 0)), "cuda:0", ComputeDtype.BFLOAT16),
        (gpu((7, 5)), "cuda:0", ComputeDtype.FLOAT16),
    ],
)
def test_the_gpu_is_used_where_there_is_one(card: object, device: str, dtype: ComputeDtype) -> None:
    options = default_options(card)  # type: ignore[arg-type]
    assert (options.device, options.compute_dtype) == (device, dtype)


def test_a_lora_that_cannot_be_read_is_refused_before_anything_runs(
    demo_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"not a header")
    for name in ("bad", "gone"):
        lora = Lora(tmp_path / f"{name}.safetensors", 1.0)
        error = refused(replace(preset_of(demo_model), loras=(lora,)))
        assert error.what == f"The LoRA {name}.safetensors cannot be read"
        assert "Take it out of the LoRAs" in error.fix


def test_an_output_that_no_file_can_have_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for output in (tmp_path / f"{'a' * 300}.mp4", tmp_path / ("b" * 300) / "a.mp4", tmp_path):
        with pytest.raises(EngineError, match="cannot be written"):
            check_place(output)
    check_place(tmp_path / "new" / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_an_output_below_a_closed_folder_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    try:
        with pytest.raises(EngineError, match="cannot be written to"):
            check_place(closed / "in" / "a.mp4")
    finally:
        closed.chmod(0o755)


def test_a_name_too_long_for_a_preset_is_told_when_it_is_read() -> None:
    name = "a" * 5000
    assert find_preset(name) == Path(name)
    with pytest.raises(PresetError, match="cannot be read"):
        read(find_preset(name))


# Previews.


@pytest.mark.parametrize("tiny", [True, False])
@pytest.mark.parametrize("wanted", list(Previews))
def test_previews_are_those_that_are_asked_for(
    wanted: Previews, tiny: bool, demo_model: Path
) -> None:
    result = plan(preset_of(demo_model, tiny=tiny), Options(preview=wanted), OUTPUT)
    job = result.job
    assert job.preview is wanted
    assert job.preview_vae is not None  # for previews, or where memory lacks for the full one
    assert [path.name for path in job.preview_vae.files] == ["taew2_1.pth"]
    assert job.tiny_vae is tiny
    assert result.notes == ()
    assert result.preset == planned(preset_of(demo_model, tiny=tiny)).preset


def test_a_run_without_a_screen_makes_no_previews(demo_model: Path) -> None:
    assert planned(preset_of(demo_model)).job.preview is Previews.OFF
    assert default_options(gpu((9, 0))).preview is Previews.OFF


@pytest.mark.parametrize("how", ["absent", "unnamed", "cut"])
def test_without_a_tiny_vae_previews_are_made_from_latents(how: str, model_copy: Path) -> None:
    preset = preset_of(model_copy)
    assert preset.tiny_vae is not None
    if how == "unnamed":
        preset = replace(preset, model_path=None, tiny_vae=None)
    elif how == "cut":
        preset.tiny_vae.write_bytes(preset.tiny_vae.read_bytes()[:300])
    else:
        preset.tiny_vae.unlink()
    result = plan(preset, Options(preview=Previews.TINY_VAE), OUTPUT)
    assert (result.job.preview, result.job.preview_vae) == (Previews.LATENTS, None)
    (note,) = result.notes
    assert note.endswith("previews are made from latents")
    assert plan(preset, Options(preview=Previews.LATENTS), OUTPUT).notes == ()


def test_a_tiny_vae_that_only_draws_previews_reads_latents_as_its_name_says(
    model_copy: Path,
) -> None:
    preset = preset_of(model_copy)
    assert preset.tiny_vae is not None
    light = preset.tiny_vae.with_name("lighttaew2_1.pth")
    preset.tiny_vae.rename(light)
    named = replace(preset, tiny_vae=light)
    options = Options(preview=Previews.TINY_VAE)
    assert plan(named, options, OUTPUT).job.tiny_vae_denormalized
    told = replace(named, tiny_vae_denormalized=False)
    assert not plan(told, options, OUTPUT).job.tiny_vae_denormalized
