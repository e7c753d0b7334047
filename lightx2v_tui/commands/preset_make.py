"""`preset make`: write a preset for a model root, or the one that a video carries."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.spec.errors import CheckpointError, JobError
from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui import presets, settings
from lightx2v_tui.catalog import TITLES, Kind, ModelRoot, find_roots
from lightx2v_tui.gpus import read_gpus
from lightx2v_tui.host import read_memory
from lightx2v_tui.launch import choices, runnable
from lightx2v_tui.output import for_reader, printable
from lightx2v_tui.paths import expanded, model_dirs
from lightx2v_tui.presets import PresetError
from lightx2v_tui.presets.library import VIDEO_SUFFIXES, from_video
from lightx2v_tui.presets.root import model_at


def execute(args: argparse.Namespace) -> int:
    """Write or print a preset: the best for a model and what was asked for, or a video's own."""
    if args.model.suffix.lower() in VIDEO_SUFFIXES and not args.model.is_dir():
        return _of_video(args)
    root = _root(args.model, args.root)
    best = choices.recommended(root, next(iter(read_gpus().gpus), None), read_memory().available)
    choice = replace(
        best,
        dit=_picked(root, Kind.DIT, args.dit or _own_precision(root, args.model)) or best.dit,
        t5=_picked(root, Kind.T5, args.t5) or best.t5,
        tiny_vae=best.tiny_vae if args.vae is None else args.vae == "tiny",
        clip=_picked(root, Kind.CLIP, args.clip) or best.clip,
    )
    if args.vae and (reason := runnable.reason_no_vae(root, tiny=choice.tiny_vae)):
        raise PresetError(f"The {args.vae} VAE cannot be used", reason, "Choose the other one.")
    preset = choices.preset_for(root, choice)
    if args.lora:
        preset = replace(preset, loras=_loras(args.lora))
    _give(preset, args)
    if reason := runnable.reason_not_runnable(root):
        _note(f"{root.name} cannot run yet: {reason}")
        _note(f"lightx2v-tui scan {root.path} tells what it lacks; parts in another folder are "
              f"found with lightx2v-tui --root DIR preset make {args.model}")  # fmt: skip
    return 0


def _of_video(args: argparse.Namespace) -> int:
    """The preset that made a video, as the video tells it."""
    options = ("dit", "t5", "clip", "vae", "lora")
    if given := [f"--{name}" for name in options if getattr(args, name)]:
        raise PresetError(
            f"{', '.join(given)} cannot be given with a video",
            "its settings are taken as they are",
            "Leave it out, and change the preset that is written.",
        )
    preset = from_video(expanded(args.model))
    _give(preset, args)
    for note in preset.notes:
        _note(note)
    return 0


def _give(preset: presets.Preset, args: argparse.Namespace) -> None:
    if args.output is None:
        sys.stdout.write(presets.dumps(preset))
    else:
        _write(preset, args.output, force=args.force)
        print(for_reader(args.output, sys.stdout))  # noqa: T201


def _root(path: Path, others: Sequence[Path]) -> ModelRoot:
    """The model at `path`; what it lacks is looked for in `others` and in the usual places."""
    try:
        root = model_at(path)
    except CheckpointError as error:
        raise PresetError(error.what, error.why, "Give a model's root folder.") from error
    if root is None:
        raise PresetError(
            f"{path} is not a model root",
            "no DiT was recognised in it, nor one of the folders that LightX2V's guide names",
            f"Run lightx2v-tui scan {path} to find one below it.",
        )
    if not runnable.reason_not_runnable(root):
        return root
    stored, _ = settings.load()
    places = [root.path, *map(expanded, others), *map(Path, stored.roots), *model_dirs()]
    for found in find_roots(places, threading.Event()):
        if isinstance(found, ModelRoot) and found.key == root.key:
            root = found
    for offer in root.offers:
        _note(f"{TITLES[offer.kind]} from {offer.files[0]}")
    return root


def _note(text: str) -> None:
    sys.stderr.write(f"note: {printable(text)}\n")


def _own_precision(root: ModelRoot, path: Path) -> Precision | None:
    """The precision of a DiT that was named by its file."""
    dits = (c for c in root.components() if c.kind is Kind.DIT and path in c.files)
    return next((dit.precision for dit in dits), None)


def _picked(root: ModelRoot, kind: Kind, precision: Precision | None) -> Precision | None:
    if precision is not None and (reason := runnable.reason_not(root, kind, precision)):
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


def _write(preset: presets.Preset, path: Path, *, force: bool) -> None:
    _check_free(path, force=force)
    try:
        presets.save(preset, path)
    except OSError as error:
        raise PresetError(
            f"{path.name} cannot be written",
            f"{path}: {error.strerror}",
            "Choose another place with -o.",
        ) from error


def _check_free(path: Path, *, force: bool) -> None:
    """Never replace what somebody wrote by hand without asking."""
    if not os.path.lexists(path) or path.is_dir():  # a folder is refused when it is written to
        return
    if path.exists() and not path.is_file():
        raise PresetError(f"{path.name} is not a file", str(path), "Choose another place with -o.")
    if force or presets.is_own(path) or _confirmed(path):
        return
    raise PresetError(
        f"{path.name} was not replaced",
        f"{path} exists, and is not as this app writes presets",
        "Choose another place with -o, or replace it with --force.",
    )


def _confirmed(path: Path) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{printable(str(path))} was not written by this app; overwrite? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
