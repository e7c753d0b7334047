"""From the folder of a run back to its plan: the same video, or a reason why not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.spec.errors import EngineError, JobError
from engine.spec.events import CancelledByUser, Done, Failed, StepDone
from engine.spec.job import Job, Placing, Placings, Previews
from engine.spec.precision import ComputeDtype, Precision, QuantCompute
from lightx2v_tui.host import HostMemory
from lightx2v_tui.launch import jobs
from lightx2v_tui.launch.admission import TooLittleRam, check_ram
from lightx2v_tui.launch.forecast import foresee, machine_of
from lightx2v_tui.launch.jobs import Options, Plan
from lightx2v_tui.presets import Preset
from lightx2v_tui.runs import resume
from lightx2v_tui.runs.folder import RunFolder, RunRecord, new_run

OPTIONS = Options("cpu", ComputeDtype.FLOAT32, QuantCompute.DEQUANT, preview=Previews.LATENTS)


def planned(root: Path, output: Path, **values: Any) -> Plan:
    preset = Preset(model_path=root, width=64, height=96, frames=5, seed=3, **values)
    return jobs.plan(preset, OPTIONS, output)


def ended(plan: Plan, *events: Any, lowered: Job | None = None) -> RunFolder:
    """The folder of a run of that plan which ended early."""
    folder = new_run()
    record = RunRecord(folder, plan.preset)
    record.begin(plan.job)
    if lowered is not None:
        record.begin(lowered, "lower", lowered=True)
    for event in (StepDone(1, 4, 0.5), *(events or (CancelledByUser(),))):
        record.take(event)
    return folder


def change(folder: RunFolder, **values: object) -> None:
    status = json.loads(folder.status.read_text())
    folder.status.write_text(json.dumps({**status, **values}))


@pytest.fixture
def plan(demo_model: Path, tmp_path: Path) -> Plan:
    return planned(demo_model, tmp_path / "a.mp4", prompt="a fox\n狐")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dit_precision": "fp8", "t5_precision": "int8"},
        {"use_tiny_vae": True},
        {"sampler": "unipc", "infer_steps": 7, "enable_cfg": True, "guidance_scale": 4.5,
         "negative_prompt": "dull", "batched_guidance": True},
        {"t5_cpu_offload": True, "use_tiling_vae": True, "unload_modules": False},
    ],
)  # fmt: skip
def test_the_plan_of_a_folder_is_the_one_it_was_made_from(
    values: dict[str, Any], demo_model: Path, tmp_path: Path
) -> None:
    typed = {
        name: Precision(value) if name.endswith("precision") else value
        for name, value in values.items()
    }
    plan = planned(demo_model, tmp_path / "a.mp4", prompt="a fox\n狐", **typed)
    again = resume.plan_of(ended(plan).path)
    assert replace(again.job, placings=plan.job.placings) == plan.job


def test_it_is_found_from_any_folder(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo_model.parent)
    folder = ended(planned(Path(demo_model.name), Path("a.mp4")))
    monkeypatch.chdir(tmp_path)
    job = resume.plan_of(folder.path).job
    assert job.output == demo_model.parent / "a.mp4"
    assert job.dit.files[0].is_absolute()


@pytest.mark.parametrize("size", [(640, 480), (123, 77), (300, 900), (1920, 817)])
def test_a_size_that_was_fitted_to_an_image_is_not_fitted_again(
    size: tuple[int, int], golden: Path, tmp_path: Path
) -> None:
    (root,) = (path for path in golden.iterdir() if "I2V" in path.name.upper())
    Image.new("RGB", size).save(tmp_path / "first.png")
    preset = Preset(model_path=root, width=832, height=480, frames=5, image=tmp_path / "first.png")
    plan = jobs.plan(preset, OPTIONS, tmp_path / "a.mp4")
    again = resume.plan_of(ended(plan).path)
    assert (again.job.width, again.job.height) == (plan.job.width, plan.job.height)
    assert again.job.latent_shape == plan.job.latent_shape


def test_the_video_can_be_moved(plan: Plan, tmp_path: Path) -> None:
    found = resume.resumed(ended(plan).path, output=tmp_path / "b.mp4")
    assert found.plan.job.output == found.plan.preset.output == tmp_path / "b.mp4"


def test_a_lower_plan_is_gone_on_with(plan: Plan) -> None:
    placings = Placings(Placing.RESIDENT, Placing.DROP, Placing.DROP, Placing.DROP)
    folder = ended(plan, lowered=replace(plan.job, placings=placings, tiling=True))
    job = resume.plan_of(folder.path).job
    assert (job.placings, job.tiling) == (placings, True)
    assert json.loads(job.settings)["use_tiling_vae"] is True


def test_what_decides_no_latents_can_be_set(plan: Plan) -> None:
    placings = Placings(*[Placing.DROP] * 4)
    folder = ended(plan, lowered=replace(plan.job, placings=placings))
    found = resume.resumed(folder.path, assign=("use_tiny_vae=true", "unload_modules=false"))
    assert found.plan.job.tiny_vae
    assert found.plan.job.placings != placings


@pytest.mark.parametrize(
    "text", ["seed=4", "infer_steps=3", "use_tiny_vae=true,x", "lora_configs="]
)
def test_what_decides_them_cannot(text: str, plan: Plan) -> None:
    with pytest.raises(JobError):
        resume.resumed(ended(plan).path, assign=(text,))


def test_another_kind_of_device_is_refused(plan: Plan) -> None:
    with pytest.raises(JobError, match="other frames"):
        resume.resumed(ended(plan).path, device="cuda:0")
    assert resume.resumed(ended(plan).path, device="cpu").plan.job.device == "cpu"


def test_a_run_that_failed_goes_on(plan: Plan) -> None:
    resume.plan_of(ended(plan, Failed(EngineError("no room"))).path)


def test_a_run_that_is_done_says_where_its_video_is(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    folder = ended(plan, Done(tmp_path / "a.mp4", 1.0))
    with pytest.raises(JobError, match=f"is done\nits video is {tmp_path / 'a.mp4'}"):
        resume.plan_of(folder.path)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(JobError, match="which is gone"):
        resume.plan_of(folder.path)


def test_a_run_under_way_is_refused(plan: Plan) -> None:
    folder = new_run()
    record = RunRecord(folder, plan.preset)
    record.begin(plan.job)
    with pytest.raises(JobError, match=r"is running\nprocess \d+ works on it since"):
        resume.plan_of(folder.path)
    change(folder, host="another machine")  # only its hold on the log tells
    with pytest.raises(JobError, match="is running"):
        resume.plan_of(folder.path)
    record.take(CancelledByUser())
    change(folder, status="running", host="another machine")
    resume.plan_of(folder.path)


def test_a_run_that_was_killed_goes_on(plan: Plan) -> None:
    folder = ended(plan)
    change(folder, status="running", pid_started=1000.0)  # the number belongs to another now
    resume.plan_of(folder.path)


def test_files_that_are_gone_are_named(model_copy: Path, tmp_path: Path) -> None:
    folder = ended(planned(model_copy, tmp_path / "a.mp4"))
    shutil.rmtree(model_copy)
    with pytest.raises(EngineError, match=model_copy.name):
        resume.plan_of(folder.path)


@pytest.mark.parametrize(
    ("values", "words"),
    [({"schema": 3}, "form 3"), ({"schema": True}, "form True"), ({"schema": 1}, "without what"),
     ({"options": {}}, "without what"), ({"options": {"device": "tpu"}}, "no device tpu")],
)  # fmt: skip
def test_records_of_another_form(values: dict[str, object], words: str, plan: Plan) -> None:
    folder = ended(plan)
    change(folder, **values)
    with pytest.raises(EngineError, match=words):
        resume.plan_of(folder.path)


def test_a_run_is_found_by_id_and_by_folder(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ended(plan).path
    assert resume.find(folder.name) == folder
    assert resume.find(str(folder)) == folder
    assert resume.find(f"{folder}/") == folder
    monkeypatch.chdir(folder.parent.parent)
    assert resume.find("runs/" + folder.name) == folder
    monkeypatch.chdir(folder)
    assert resume.find("./") == folder
    for name in ("nothing", str(tmp_path), "", "x" * 5000, "a\0b", "../.."):
        with pytest.raises(JobError, match="There is no run"):
            resume.find(name)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = ("schema", "status", "pid", "pid_started", "host", "started", "options", "attempts",
          "output", "seconds")  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_whatever_stands_in_a_record_is_a_plan_or_an_error_in_words(
    values: dict[str, Any], plan: Plan
) -> None:
    folder = ended(plan)
    change(folder, **values)
    try:
        job = resume.plan_of(folder.path).job
    except EngineError:
        return
    assert (job.seed, job.prompt) == (3, "a fox\n狐")
    assert job.latent_shape == plan.job.latent_shape


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_record_is(content: bytes, plan: Plan) -> None:
    folder = ended(plan)
    folder.status.write_bytes(content)
    with pytest.raises(EngineError):
        resume.plan_of(folder.path)


# Too little RAM.

GB = 1_000_000_000


def memory(available: int, swap: int = 0, limit: int | None = None) -> HostMemory:
    return HostMemory(limit or 64 * GB, available, 0, swap, swap, limit)


@pytest.mark.parametrize(
    ("available", "swap", "limit", "outcome"),
    [(GB, 0, None, "fits"), (1000, GB, None, "swaps"), (1000, 0, None, "refused"),
     (1000, GB, 2000, "refused"), (1000, 1000, None, "refused")],
)  # fmt: skip
def test_a_run_that_ram_cannot_hold_is_refused_with_the_figures(
    available: int, swap: int, limit: int | None, outcome: str, plan: Plan
) -> None:
    told = memory(available, swap, limit)
    forecast = foresee(plan.job, machine_of(None, told))
    if outcome != "refused":
        assert ("swapped" in check_ram(forecast, told)) is (outcome == "swaps")
        return
    with pytest.raises(TooLittleRam) as caught:
        check_ram(forecast, told)
    assert "MB of RAM" in caught.value.what
    assert "1 kB are free" in caught.value.why
    assert ("container" in caught.value.why) is (limit is not None)
    assert "--force" in caught.value.fix
