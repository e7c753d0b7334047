"""`preset make`: write a preset for a model root."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

from engine.spec.errors import JobError
from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui import choices, presets
from lightx2v_tui.catalog import Kind, ModelRoot, inspect_root
from lightx2v_tui.gpus import read_gpus
from lightx2v_tui.paths import expanded
from lightx2v_tui.presets import PresetError


def execute(args: argparse.Namespace) -> int:
    """Choose what was asked for, and the best for the rest; write a file or print it."""
    root = _root(args.model)
    best = choices.recommended(root, next(iter(read_gpus().gpus), None))
    choice = replace(
        best,
        dit=_picked(root, Kind.DIT, args.dit) or best.dit,
        t5=_picked(root, Kind.T5, args.t5) or best.t5,
        tiny_vae=best.tiny_vae if args.vae is None else args.vae == "tiny",
        clip=_picked(root, Kind.CLIP, args.clip) or best.clip,
    )
    if args.vae and (reason := choices.reason_no_vae(root, tiny=choice.tiny_vae)):
        raise PresetError(f"The {args.vae} VAE cannot be used", reason, "Choose the other one.")
    preset = choices.preset_for(root, choice)
    if args.lora:
        preset = replace(preset, loras=_loras(args.lora))
    if args.output is None:
        print(json.dumps(presets.to_json(preset), indent=2, ensure_ascii=False))  # noqa: T201
    else:
        _write(preset, args.output)
        print(args.output)  # noqa: T201
    return 0


def _root(path: Path) -> ModelRoot:
    try:
        root = inspect_root(path)
    except OSError as error:
        raise PresetError(
            f"{path} cannot be read", error.strerror or str(error), "Give a model's root folder."
        ) from error
    if root is None:
        raise PresetError(
            f"{path} is not a model root",
            "it has none of original/ fp8/ int8/ distill_models/ distill_fp8/ distill_int8/",
            f"Run lightx2v-tui scan {path} to find one below it.",
        )
    return root


def _picked(root: ModelRoot, kind: Kind, precision: Precision | None) -> Precision | None:
    if precision is not None and (reason := choices.reason_not(root, kind, precision)):
        raise PresetError(
            f"{precision.value} cannot be picked for {kind.value}",
            reason,
            f"See lightx2v-tui scan {root.path}.",
        )
    return precision


def _loras(items: list[str]) -> tuple[Lora, ...]:
    found: list[Lora] = []
    for item in items:
        name, _, strength = item.rpartition(":")
        path = expanded(Path(name or item))
        try:
            value = float(strength) if name else 1.0
        except ValueError:
            path, value = expanded(Path(item)), 1.0
        if not path.is_file():
            raise JobError(f"There is no LoRA {path}", "the file does not exist", "Check the path.")
        found.append(Lora(path.absolute(), value))
    return tuple(found)


def _write(preset: presets.Preset, path: Path) -> None:
    try:
        presets.save(preset, path)
    except OSError as error:
        raise PresetError(
            f"{path.name} cannot be written",
            f"{path}: {error.strerror}",
            "Choose another place with -o.",
        ) from error
