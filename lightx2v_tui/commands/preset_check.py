"""`preset check`: what a preset would use, key by key, and what LightX2V would make of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine.spec.errors import CheckpointError, EngineError, JobError
from lightx2v_tui import presets
from lightx2v_tui.catalog import Component, Kind, component_at, read_config
from lightx2v_tui.commands.run import DRY, find_preset, generate
from lightx2v_tui.gpus import Gpu, read_gpus
from lightx2v_tui.launch import jobs
from lightx2v_tui.output import printable
from lightx2v_tui.paths import runs_dir
from lightx2v_tui.presets import Preset, jsonc
from lightx2v_tui.presets.keys import KEYS, LORAS, OWN, OWN_KEYS, PATH, passed_on
from lightx2v_tui.presets.lightx2v import Difference, FolderConfig, Surroundings, differences
from lightx2v_tui.presets.lightx2v_model import CONFIG_FOLDERS
from lightx2v_tui.presets.root import model_at

OK, FAILED, USAGE = 0, 1, 2
WIDTH = 80
FOLDERS = ("model_path", "t5_tokenizer_path")
ANYTHING = ("dit_original_ckpt", "dit_quantized_ckpt", f"{OWN}.output")
STAND_IN = Path("given with --image")


@dataclass(frozen=True)
class Line:
    """One key of the file: what it says, and what that is good for here."""

    key: str
    value: object
    use: str


def execute(args: argparse.Namespace) -> int:
    """Print every key and what it means here, where LightX2V differs, and what a run would use."""
    path = find_preset(args.preset)
    text = presets.read_text(path)
    preset = presets.parse(text, str(path))
    lines = [*_lines(preset)]
    found = differences(preset, _surroundings(preset, text))
    gpu = next(iter(read_gpus().gpus), None)
    if args.json:
        return _report(preset, lines, found, gpu)
    for line in lines:
        _print(f"{line.key} = {_shown(line)}  ({line.use})")
    _print_differences(found, jsonc.layout(text))
    try:
        options = replace(jobs.default_options(gpu), stand_in=STAND_IN)
        return generate(preset, options, destination=preset.output, manner=DRY)
    except EngineError:
        for note in preset.notes:
            _print(textwrap.fill(f"note: {note}", WIDTH, subsequent_indent="      ",
                                 break_long_words=False, break_on_hyphens=False))  # fmt: skip
        raise


def _report(preset: Preset, lines: list[Line], found: list[Difference], gpu: Gpu | None) -> int:
    """The same as one JSON object; an error of the run is part of it, and of the exit code."""
    plan: dict[str, object] | None = None
    error: EngineError | None = None
    notes = preset.notes
    try:
        destination = preset.output or runs_dir() / "NEW" / "output.mp4"
        options = replace(jobs.default_options(gpu), stand_in=STAND_IN)
        planned = jobs.plan(preset, options, destination, gpu)
        plan, notes = presets.to_json(planned.preset), planned.notes
    except EngineError as caught:
        error = caught
    report = {
        "keys": [asdict(line) for line in lines],
        "differences": [asdict(difference) for difference in found],
        "notes": notes,
        "plan": plan,
        "error": {"what": error.what, "why": error.why, "fix": error.fix} if error else None,
    }
    print(json.dumps(report, indent=2, default=str))  # noqa: T201
    return OK if error is None else USAGE if isinstance(error, JobError) else FAILED


def _surroundings(preset: Preset, text: str) -> Surroundings:
    return Surroundings(
        strict=_strict(text),
        configs=tuple(_folder_configs(preset)),
        dit=_dit(preset),
        installed=jobs.attention_installed,
    )


def _dit(preset: Preset) -> Component | None:
    """The DiT that a run would use, where it can be read: what is wrong with it is told later."""
    try:
        if preset.dit is not None:
            return component_at(preset.dit, Kind.DIT)
        root = model_at(preset.model_path) if preset.model_path else None
    except (EngineError, OSError):
        return None
    return root.find(Kind.DIT, preset.dit_precision) if root else None


def _strict(text: str) -> bool:
    try:
        jsonc.strict(text)
    except jsonc.JsonError:
        return False
    return True


def _folder_configs(preset: Preset) -> Iterator[FolderConfig]:
    """The files that LightX2V reads after the preset, in its order."""
    folders = [preset.model_path / name for name in CONFIG_FOLDERS] if preset.model_path else []
    found = [folder for folder in folders if _has_config(folder)][:1]
    quantized = preset.words.get("dit_quantized_ckpt")
    if isinstance(quantized, Path) and _has_config(quantized):
        found.append(quantized)
    for folder in found:
        try:
            yield FolderConfig(folder / "config.json", read_config(folder))
        except CheckpointError as error:
            yield FolderConfig(folder / "config.json", broken=error.what)


def _has_config(folder: Path) -> bool:
    return os.path.isfile(folder / "config.json")  # noqa: PTH113 - a Path raises at long names


def _lines(preset: Preset) -> Iterator[Line]:
    for key, value in preset.words.items():
        name = "mm_config.mm_type" if key == "mm_type" else key
        yield Line(name, value, _use(key, value, preset))
    for key, value in preset.mm_extra.items():
        yield Line(f"mm_config.{key}", value, "kept for LightX2V")
    for key, value in preset.extra.items():
        yield Line(key, value, "kept for LightX2V" if passed_on(key) else "not known, kept")
    for key, known in OWN_KEYS.items():
        value = getattr(preset, known.field)
        if value is not None:
            yield Line(f"{OWN}.{key}", value, _state(f"{OWN}.{key}", value))
    for key, value in preset.own_extra.items():
        yield Line(f"{OWN}.{key}", value, "not known, kept")


def _use(key: str, value: object, preset: Preset) -> str:
    known = KEYS.get(key)
    if known is not None and known.kind is PATH and isinstance(value, Path):
        chosen = value in (getattr(preset, known.field, None), preset.dit, preset.t5, preset.clip)
        return _state(key, value) if chosen else f"the other is used; {_state(key, value)}"
    if known is not None and known.kind is LORAS:
        return "; ".join(_state(key, lora.path) for lora in preset.loras or ()) or "none"
    return "used"


def _state(key: str, value: object) -> str:
    """Say whether what a path names is there, and of the kind its key wants."""
    if not isinstance(value, Path):
        return "used"
    relative = "" if value.is_absolute() else f", looked for in {Path.cwd()}"
    try:
        folder, there = value.is_dir(), value.exists()
    except OSError as error:  # no right to look, or a name too long to be one
        return f"{error.strerror}{relative}"
    if not there:
        return f"{'used' if key == f'{OWN}.output' else 'does not exist'}{relative}"
    if key not in ANYTHING and folder != (key in FOLDERS):
        return f"not a {'file' if folder else 'folder'}{relative}"
    return f"a {'folder' if folder else 'file'}{relative}"


def _shown(line: Line) -> str:
    if isinstance(line.value, Path):
        return str(line.value)
    text = json.dumps(line.value, ensure_ascii=False, default=str)
    return text if len(text) <= WIDTH // 2 else f"{text[: WIDTH // 2]}…"


def _print_differences(found: list[Difference], layout: jsonc.Layout) -> None:
    _print("")
    if not found:
        _print("LightX2V of October 2025, of August 2026 and this app would do the same.")
    else:
        _print("Where LightX2V of October 2025, of August 2026 and this app differ:")
    for difference in found:
        line = layout.lines.get(tuple(difference.key.split(".")))
        _print(f"  {difference.key}" + (f" (line {line})" if line else ""))
        for who, what in _told(difference):
            _print(textwrap.fill(what, WIDTH, initial_indent=f"    {who:<9} ",
                                 subsequent_indent=" " * 14,
                                 break_long_words=False, break_on_hyphens=False))  # fmt: skip
    _print("")


def _told(difference: Difference) -> list[tuple[str, str]]:
    if difference.then == difference.now:
        return [("LightX2V:", difference.then), ("here:", difference.here)]
    return [
        ("Oct 2025:", difference.then),
        ("Aug 2026:", difference.now),
        ("here:", difference.here),
    ]


def _print(text: str) -> None:
    sys.stdout.write(printable(text, keep="\n") + "\n")
