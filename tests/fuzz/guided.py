"""`python -m tests.fuzz.guided KIND FOLDER [libFuzzer's arguments]`: fuzzing that follows branches.

KIND is one of READERS; FOLDER keeps the inputs that reached something new. Needs `pip install
atheris`, which the other tests do not. `-max_total_time=3600` ends it after an hour; with
TMPDIR=/dev/shm it is faster.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["engine", "lightx2v_tui", "json"]):
    from engine import resume
    from engine.spec.control import RunControl
    from engine.spec.errors import CheckpointError, EngineError
    from engine.spec.header import read_header
    from engine.spec.mp4_comment import read_comment
    from lightx2v_tui import presets
    from lightx2v_tui.catalog.files import read_index, read_object
    from lightx2v_tui.presets import PresetError, jsonc
    from lightx2v_tui.presets.writing import dumps
    from lightx2v_tui.runs import history
    from lightx2v_tui.runs.resume import resumed

WHERE = Path(tempfile.mkdtemp(prefix="fuzz-"))
TABLE = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
         "b": {"dtype": "BF16", "shape": [5], "data_offsets": [24, 34]}}  # fmt: skip
COMMENT_LIMIT = 100_000


def written(name: str, content: bytes) -> Path:
    """A file of that name that holds `content`."""
    path = WHERE / name
    path.write_bytes(content)
    return path


def header(content: bytes) -> None:
    for name in ("m.safetensors", "m.pth", "m.gguf"):
        with suppress(CheckpointError):
            read_header(written(name, content))


def preset(content: bytes) -> None:
    """What is read is written, and read again as the same."""
    with suppress(PresetError):
        text = dumps(presets.parse(content.decode("utf-8", "replace"), "p.json"))
        assert dumps(presets.parse(text, "p.json")) == text


def comments(content: bytes) -> None:
    """Comments become blanks: every line and column stays where it was."""
    text = content.decode("utf-8", "replace")
    blanked = jsonc.blank(text)
    assert len(blanked) == len(text)
    assert blanked.count("\n") == text.count("\n")
    jsonc.layout(text)
    with suppress(jsonc.JsonError):
        jsonc.loads(text)


def index(content: bytes) -> None:
    path = written("i.index.json", content)
    for read in (read_index, read_object):
        with suppress(CheckpointError):
            read(path)


def record(content: bytes) -> None:
    """The folder of a run, whose files hold anything."""
    folder = WHERE / "20260101-000000"
    folder.mkdir(exist_ok=True)
    for name in ("status.json", "preset.json"):
        (folder / name).write_bytes(content)
    found = history.read_run(folder)
    if found is not None:
        json.dumps(history.as_json(found))
        with suppress(EngineError, PresetError):
            history.preset_of(found)
    with suppress(EngineError):
        resumed(folder)


def video(content: bytes) -> None:
    with suppress(EngineError):
        read_comment(written("v.mp4", content), COMMENT_LIMIT)


def checkpoint_reader(seeds: Path) -> Callable[[bytes], None]:
    """A reader of checkpoints of one job; its digest is always right, to get behind it."""
    import torch

    from engine.demo import write
    from tests.engine.support import make_job
    from tests.engine.test_resume import until_step

    write(WHERE / "demo")
    job = make_job(WHERE / "demo", WHERE / "a.mp4", tiny=True, checkpoint=WHERE / "c.safetensors")
    until_step(job, 2)
    good, made_for, control = job.checkpoint.read_bytes(), resume.fingerprint(job), RunControl()
    (seeds / "checkpoint").write_bytes(good)
    size = int.from_bytes(good[:8], "little")
    digest = json.loads(good[8 : 8 + size])["__metadata__"]["digest"]
    resume._digest = lambda _facts, _tensors: digest

    def checkpoint(content: bytes) -> None:
        with suppress(CheckpointError):
            walk = resume.read(written("c.safetensors", content), job, made_for, control)
            assert 1 <= walk.step <= len(walk.sampler)
            assert walk.latents.shape == job.latent_shape
            assert torch.isfinite(walk.latents).all()

    return checkpoint


READERS: dict[str, Callable[[bytes], None]] = {
    "header": header, "preset": preset, "comments": comments, "index": index, "record": record,
    "video": video,
}  # fmt: skip
SEEDS = {
    "header": len(text := json.dumps(TABLE).encode()).to_bytes(8, "little") + text + bytes(34),
    "preset": b'// x\n{"fps": 16, /* a */ "mm_config": {"mm_type": "Default",},}',
    "comments": b'// x\n{"fps": 16, /* a */ "mm_config": {"mm_type": "Default",},}',
    "index": b'{"metadata": {"total_size": 5}, "weight_map": {"a.b": "block_0.safetensors"}}',
    "record": b'{"schema": 2, "status": "done", "stage": "decode", "step": 4, "steps": 4}',
    "video": bytes(4) + b"ftypisom" + bytes(4) + b"moov" + bytes(4) + b"udta" + bytes(4) + b"meta",
}


def main() -> None:
    """Fuzz one reader until it fails or the time is over."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "checkpoint":
        reader = checkpoint_reader(folder)
    else:
        reader = READERS[kind]
        (folder / "seed").write_bytes(SEEDS[kind])
    atheris.Setup([sys.argv[0], *sys.argv[2:]], reader)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
