"""Downloads: what is chosen, what is fetched, and what goes wrong on the way."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.spec.errors import Cancelled, EngineError, JobError
from engine.spec.precision import Precision
from lightx2v_tui.catalog import inspect_root
from lightx2v_tui.catalog.folders import DOWNLOADS
from lightx2v_tui.downloads import fetching, hub
from lightx2v_tui.downloads.fetching import DownloadEvent, DownloadPlan
from lightx2v_tui.downloads.parts import (
    Parts,
    RemoteFile,
    choose,
    kind_of,
    parts_of,
    recommended,
)
from tests.unit import helpers
from tests.unit.fake_hub import REVISION, FakeHub, serving
from tests.unit.helpers import permissions_hold

REPO = "lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill-Lightx2v"
BIG = bytes(range(256)) * 4000
FILES = {
    "README.md": b"words",
    ".gitattributes": b"*.pth filter=lfs",
    "config.json": b'{"num_heads": 2}',
    "google/umt5-xxl/tokenizer.json": b"{}",
    "google/umt5-xxl/empty.txt": b"",
    "distill_fp8/block_0.safetensors": BIG,
    "distill_fp8/config.json": b"{}",
    "distill_fp8/models_t5_umt5-xxl-enc-fp8.pth": b"t5" * 100,
    "distill_int8/block_0.safetensors": BIG[::-1],
    "loras/rank64.safetensors": b"l" * 200,
    "assets/picture.png": b"p",
}


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that `huggingface_hub` takes for the real one; no try waits."""
    from huggingface_hub import constants

    monkeypatch.setattr(fetching, "PAUSES", (0.0,) * 3)
    monkeypatch.setattr(fetching, "TOLD", 0.0)
    with serving({REPO: FILES}) as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield served


def planned(place: Path, *names: str) -> DownloadPlan:
    repository, parts = fetching.look(REPO)
    return fetching.plan(repository, parts, choose(parts, names), place)


def run(plan: DownloadPlan, stop: threading.Event | None = None) -> list[DownloadEvent]:
    return list(fetching.fetch(plan, stop or threading.Event()))


def written(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


# what there is to choose


def files(*paths: str, nbytes: int = 1000) -> list[RemoteFile]:
    return [RemoteFile(path, nbytes) for path in paths]


def shown(parts: Parts) -> dict[str, str | None]:
    return {v.name: v.precision.value if v.precision else None for v in parts.variants}


def test_a_repository_in_the_guides_layout_has_its_folders_as_variants() -> None:
    parts = parts_of(files(*FILES))
    assert shown(parts) == {"distill_fp8": "fp8", "distill_int8": "int8", "loras": None}
    assert {file.path for file in parts.shared} == {
        "config.json", "google/umt5-xxl/tokenizer.json", "google/umt5-xxl/empty.txt",
    }  # fmt: skip
    assert {file.path for file in parts.variants[0].files} >= {"distill_fp8/config.json"}


def test_a_repository_of_single_files_has_its_files_as_variants() -> None:
    parts = parts_of(files(
        "config.json", "wan2.1_t2v_14b_lightx2v_4step.safetensors",
        "wan2.1_t2v_14b_scaled_fp8_e4m3_lightx2v_4step.safetensors",
        "wan2.1_t2v_14b_scaled_fp8_e4m3_lightx2v_4step_comfyui.safetensors",
        "wan2.1_t2v_14b_int8_lightx2v_4step_split/block_0.safetensors",
        "wan2.1_t2v_14b_int8_lightx2v_4step_split/config.json",
    ))  # fmt: skip
    assert list(shown(parts).values()) == ["bf16", "fp8", "int8", "fp8"]
    assert [v.usual for v in parts.variants] == [True, True, False, False]
    assert parts.lacks == ("t5", "vae")
    assert [file.path for file in parts.shared] == ["config.json"]
    best = recommended(parts, helpers.gpu((9, 0)))
    assert best is not None
    assert best.name == "wan2.1_t2v_14b_scaled_fp8_e4m3_lightx2v_4step"


def test_experts_of_a_pair_are_one_variant() -> None:
    single = parts_of(files(
        "wan2.2_i2v_A14b_high_noise_int8_lightx2v_4step.safetensors",
        "wan2.2_i2v_A14b_low_noise_int8_lightx2v_4step.safetensors",
    ))  # fmt: skip
    assert [(v.name, len(v.files)) for v in single.variants] == [
        ("wan2.2_i2v_A14b_high+low_noise_int8_lightx2v_4step", 2)
    ]
    folders = parts_of(files(
        "high_noise_model/diffusion_pytorch_model-00001-of-00006.safetensors",
        "low_noise_model/diffusion_pytorch_model-00001-of-00006.safetensors",
        "low_noise_model/config.json", "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth",
    ))  # fmt: skip
    assert [(v.name, len(v.files)) for v in folders.variants] == [("original", 3)]
    assert len(folders.shared) == 2


def test_wans_own_shards_are_one_variant_with_their_encoders() -> None:
    parts = parts_of(files(
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json", "config.json",
        "models_t5_umt5-xxl-enc-bf16.pth", "Wan2.1_VAE.pth", "google/umt5-xxl/spiece.model",
        "assets/logo.json",
    ))  # fmt: skip
    assert shown(parts) == {"original": "bf16"}
    assert {kind_of(file.path) for file in parts.shared} == {"t5", "vae", "data"}
    assert parts.lacks == ()
    assert "assets/logo.json" not in {file.path for file in parts.shared}


def test_encoders_are_chosen_one_by_one() -> None:
    parts = parts_of(files(
        "models_t5_umt5-xxl-enc-fp8.pth", "models_t5_umt5-xxl-enc-fp8.safetensors",
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14-int8.pth",
        "google/umt5-xxl/tokenizer.json",
        "GPTQModel/Qwen25-VL-4bit-GPTQ/model-00001-of-00002.safetensors",
    ))  # fmt: skip
    assert [v.kind for v in parts.variants] == ["t5", "t5", "clip", "other"]
    assert "models_t5_umt5-xxl-enc-fp8.pth" in shown(parts)
    assert parts.lacks == ()
    assert recommended(parts, None) is None


def test_diffusers_repositories_are_taken_whole() -> None:
    parts = parts_of(files("model_index.json", "transformer/a-1-of-2.safetensors", "vae/b.json"))
    assert [(v.name, len(v.files)) for v in parts.variants] == [("diffusers", 3)]


def test_names_choose_exactly_by_pattern_or_by_precision() -> None:
    parts = parts_of(files(*FILES))
    for name in ("distill_fp8", "DISTILL_FP8/", "fp8", "*fp8"):
        assert [v.name for v in choose(parts, [name])] == ["distill_fp8"]
    assert len(choose(parts, ["distill_*", "fp8"])) == 2
    assert choose(parts, ["all"]) == parts.variants
    with pytest.raises(JobError, match="Did you mean distill_fp8"):
        choose(parts, ["distil_fp8"])
    two = parts_of(files("a_fp8.safetensors", "b_fp8.safetensors"))
    with pytest.raises(JobError, match="it fits a_fp8, b_fp8"):
        choose(two, ["fp8"])


@pytest.mark.parametrize(
    ("capability", "name"), [((9, 0), "distill_fp8"), ((8, 0), "distill_int8")]
)
def test_what_is_recommended_depends_on_the_gpu(capability: tuple[int, int], name: str) -> None:
    best = recommended(parts_of(files(*FILES)), helpers.gpu(capability))
    assert best is not None
    assert best.name == name


names = st.lists(st.sampled_from(["fp8", "google", "loras", "a", "block_0", "model-1-of-2", "t5"]),
                 min_size=1, max_size=3)  # fmt: skip


@given(st.lists(st.tuples(names, st.sampled_from([".safetensors", ".pth", ".json", ".md", ""]))))
def test_every_weights_file_can_be_had_and_none_twice(
    paths: list[tuple[list[str], str]],
) -> None:
    listed = files(*{"/".join(parts) + tail for parts, tail in paths})
    parts = parts_of(listed)
    taken = [f.path for v in parts.variants for f in v.files] + [f.path for f in parts.shared]
    assert len(taken) == len(set(taken))
    weights = {f.path for f in listed if kind_of(f.path) != "data"}
    google = {path for path in weights if path.split("/")[0] == "google" and "/" in path}
    assert weights - google <= set(taken)


# fetching


def test_a_download_is_a_model_that_a_scan_finds(
    fake: FakeHub, demo_model: Path, tmp_path: Path
) -> None:
    fake.repositories["lightx2v/Demo"] = {
        str(path.relative_to(demo_model)): path.read_bytes()
        for path in demo_model.rglob("*")
        if path.is_file()
    }
    repository, parts = fetching.look("lightx2v/Demo")
    plan = fetching.plan(repository, parts, choose(parts, ["fp8"]), tmp_path)
    events = run(plan)
    assert events[-1] == DownloadEvent("done", plan.nbytes, plan.nbytes)
    root = inspect_root(tmp_path / "Demo")
    assert root is not None
    assert [(v.precision, v.complete) for v in root.variants] == [(Precision.FP8, True)]
    assert not root.problems


def test_only_what_was_chosen_is_fetched_and_nothing_twice(fake: FakeHub, tmp_path: Path) -> None:
    plan = planned(tmp_path, "fp8")
    assert plan.folder == tmp_path / REPO.partition("/")[2]
    done = [event.done for event in run(plan)]
    assert done == sorted(done)
    assert written(plan.folder) == {
        "config.json", "google/umt5-xxl/tokenizer.json", "google/umt5-xxl/empty.txt",
        "distill_fp8/block_0.safetensors", "distill_fp8/config.json",
        "distill_fp8/models_t5_umt5-xxl-enc-fp8.pth",
    }  # fmt: skip
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG
    fake.asked.clear()
    again = planned(tmp_path, "fp8")
    assert again.left == 0
    assert run(again)[-1].state == "done"
    assert not fake.asked


def test_hf_download_knows_what_was_fetched(fake: FakeHub, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    plan = planned(tmp_path, "fp8")
    run(plan)
    fake.asked.clear()
    name = "distill_fp8/block_0.safetensors"
    hf_hub_download(REPO, name, revision=REVISION, local_dir=plan.folder)
    assert not fake.asked


def test_a_cut_connection_goes_on_where_it_broke(fake: FakeHub, tmp_path: Path) -> None:
    plan = planned(tmp_path, "fp8")
    run(planned(tmp_path, "loras"))  # so that the cuts meet the weights
    fake.asked.clear()
    fake.cuts = [300_000, 200_000]
    events = run(planned(tmp_path, "fp8"))
    ranges = [asked for name, asked in fake.asked if name.endswith("block_0.safetensors")]
    assert ranges == ["", "bytes=300000-", "bytes=500000-"]
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG
    waits = [event for event in events if event.state == "waiting"]
    assert waits[0].file_done == 300_000
    assert waits[0].note


def test_half_a_file_is_finished_by_the_next_start(fake: FakeHub, tmp_path: Path) -> None:
    run(planned(tmp_path, "loras"))
    fake.cuts = [100_000, 0, 0, 0]
    with pytest.raises(EngineError) as caught:
        run(planned(tmp_path, "fp8"))
    assert "what has arrived is kept" in str(caught.value) or "network" in caught.value.fix
    fake.asked.clear()
    plan = planned(tmp_path, "fp8")
    assert plan.here >= 100_000
    events = run(plan)
    assert fake.asked[0] == ("distill_fp8/block_0.safetensors", "bytes=100000-")
    assert any(event.state == "checking" for event in events)
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG
    assert not list(plan.folder.rglob("*.incomplete"))


def test_half_a_file_of_another_revision_is_not_used(fake: FakeHub, tmp_path: Path) -> None:
    run(planned(tmp_path, "loras"))
    fake.cuts = [100_000, 0, 0, 0]
    with pytest.raises(EngineError):
        run(planned(tmp_path, "fp8"))
    fake.repositories[REPO]["distill_fp8/block_0.safetensors"] = BIG[::-1]
    plan = planned(tmp_path, "fp8")
    run(plan)
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG[::-1]
    assert not list(plan.folder.rglob("*.incomplete"))


def test_a_file_of_the_same_size_and_another_revision_is_fetched_anew(
    fake: FakeHub, tmp_path: Path
) -> None:
    run(planned(tmp_path, "loras"))
    fake.repositories[REPO]["loras/rank64.safetensors"] = b"m" * 200
    plan = planned(tmp_path, "loras")
    assert plan.left == 200
    run(plan)
    assert (plan.folder / "loras/rank64.safetensors").read_bytes() == b"m" * 200


def test_a_server_that_cannot_go_on_begins_again(fake: FakeHub, tmp_path: Path) -> None:
    run(planned(tmp_path, "loras"))
    fake.ranges, fake.cuts = False, [300_000]
    plan = planned(tmp_path, "fp8")
    run(plan)
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG


def test_errors_of_the_server_that_pass_are_waited_for(fake: FakeHub, tmp_path: Path) -> None:
    fake.statuses["distill_fp8/block_0.safetensors"] = [503, 500]
    events = run(planned(tmp_path, "fp8"))
    assert [e.note for e in events if e.state == "waiting"] == [
        "the hub answers with an error (503)", "the hub answers with an error (500)",
    ]  # fmt: skip
    assert events[-1].state == "done"


def test_errors_that_stay_are_told_and_what_has_arrived_is_kept(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.statuses["distill_fp8/block_0.safetensors"] = [503] * 20
    with pytest.raises(EngineError) as caught:
        run(planned(tmp_path, "fp8"))
    assert "503" in caught.value.why
    assert "kept" in caught.value.fix


def test_a_damaged_file_does_not_get_into_its_place(fake: FakeHub, tmp_path: Path) -> None:
    fake.lies["distill_fp8/block_0.safetensors"] = BIG[::-1]
    plan = planned(tmp_path, "fp8")
    with pytest.raises(EngineError, match="arrived damaged"):
        run(plan)
    assert not (plan.folder / "distill_fp8/block_0.safetensors").exists()
    fake.lies.clear()
    run(planned(tmp_path, "fp8"))
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG


def test_more_bytes_than_were_announced_are_no_file(fake: FakeHub, tmp_path: Path) -> None:
    fake.lies["loras/rank64.safetensors"] = b"l" * 5_000_000
    with pytest.raises(EngineError, match="arrived damaged"):
        run(planned(tmp_path, "loras"))
    assert not list(tmp_path.rglob("*.incomplete"))


def test_stopping_is_immediate_even_where_the_server_is_silent(
    fake: FakeHub, tmp_path: Path
) -> None:
    run(planned(tmp_path, "loras"))
    fake.stall, stop = threading.Event(), threading.Event()
    plan = planned(tmp_path, "fp8")
    events = fetching.fetch(plan, stop)
    assert any(e.file_done and e.file.endswith("block_0.safetensors") for e in events)
    stop.set()
    with pytest.raises(Cancelled):
        list(events)
    assert plan.folder.joinpath("distill_fp8/block_0.safetensors").exists() is False
    fake.stall.set()
    fake.stall = None
    run(planned(tmp_path, "fp8"))  # nothing holds the half file any more
    assert (plan.folder / "distill_fp8/block_0.safetensors").read_bytes() == BIG


def test_two_downloads_do_not_write_into_one_file(fake: FakeHub, tmp_path: Path) -> None:
    fake.stall = threading.Event()
    plan = planned(tmp_path, "fp8")
    first = fetching.fetch(plan, threading.Event())
    for event in first:
        if event.file_done:
            break
    with pytest.raises(EngineError, match="another download"):
        run(plan)
    first.close()


def test_a_full_disk_is_told_before_anything_is_fetched(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, "fp8")
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(EngineError, match="too small") as caught:
        run(plan)
    assert "1.0 MB are to come, 1 kB are free" in caught.value.why
    assert not fake.asked


def test_a_disk_that_fills_up_keeps_what_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(tmp_path, "fp8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(fetching.os, "fsync", full)
    with pytest.raises(EngineError, match="cannot be stored") as caught:
        run(plan)
    assert "Free some room" in caught.value.fix


@pytest.mark.skipif(not permissions_hold(), reason="this user may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(EngineError, match="cannot be stored"):
        run(planned(tmp_path / "closed", "fp8"))


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / REPO.partition("/")[2]).write_text("in the way")
    with pytest.raises(EngineError, match="cannot be stored"):
        run(planned(tmp_path, "fp8"))


@pytest.mark.parametrize(
    "name",
    ["../out.safetensors", "/etc/out.safetensors", "a/../../out.json", "a\\..\\b.json", "a//b.pth"],
)
def test_no_name_leads_out_of_the_folder(fake: FakeHub, tmp_path: Path, name: str) -> None:
    fake.names["config.json"] = name
    with pytest.raises(EngineError, match="outside its folder"):
        planned(tmp_path, "fp8")


# what the hub says


def test_an_unknown_repository_has_its_neighbour_named() -> None:
    with pytest.raises(EngineError) as caught:
        fetching.look("lightx2v/Encoder")
    assert "Did you mean lightx2v/Encoders?" in caught.value.fix
    assert "HF_TOKEN" in caught.value.fix


def test_a_name_that_is_none_is_wrong_usage() -> None:
    with pytest.raises(JobError, match="OWNER/NAME"):
        fetching.look("no name/at/all")


def test_a_gated_repository_says_how_to_get_in(fake: FakeHub) -> None:
    fake.statuses[REPO], fake.codes[REPO] = [403], "GatedRepo"
    with pytest.raises(EngineError) as caught:
        fetching.look(REPO)
    assert "hf auth login" in caught.value.fix
    assert f"{fake.url}/{REPO}" in caught.value.fix


def test_a_refused_login_says_so(fake: FakeHub) -> None:
    fake.statuses[REPO] = [401]
    with pytest.raises(EngineError) as caught:
        fetching.look(REPO)
    assert "hf auth login" in caught.value.fix


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(EngineError) as caught:
        fetching.look(REPO)
    assert "cannot be reached" in caught.value.why
    assert "HF_ENDPOINT" in caught.value.fix


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(EngineError) as caught:
        fetching.look(REPO)
    assert caught.value.fix == "Unset HF_HUB_OFFLINE."


# where it goes


def test_models_go_into_the_first_usual_folder_that_can_be_written(own_home: Path) -> None:
    assert fetching.default_place().name == "models"
    (own_home / "models").mkdir()
    usual = ("/opt/models", "/mnt/ssd/models", "/data/ssd/models", own_home / "models")
    assert fetching.default_place() in map(Path, usual)


def test_a_place_that_is_the_models_own_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert fetching.folder_for("lightx2v/Encoders", tmp_path) == tmp_path / "Encoders"
    own = tmp_path / "encoders"
    assert fetching.folder_for("lightx2v/Encoders", own) == own
    assert (own / DOWNLOADS).is_relative_to(own)


def test_a_folder_that_is_there_is_used_whatever_the_case_of_its_letters(tmp_path: Path) -> None:
    (tmp_path / "WAN-LightX2V").mkdir()
    assert fetching.folder_for("lightx2v/Wan-Lightx2v", tmp_path).name == "WAN-LightX2V"
    (tmp_path / "Wan-Lightx2v").mkdir()
    assert fetching.folder_for("lightx2v/Wan-Lightx2v", tmp_path).name == "Wan-Lightx2v"


def test_nothing_of_the_hub_is_imported_before_it_is_needed() -> None:
    assert "huggingface_hub" not in vars(hub)
