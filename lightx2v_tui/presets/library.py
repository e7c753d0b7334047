"""The presets saved by name, and the settings that a video carries.

A saved preset is a LightX2V config file in one folder; its name is the file's. What was written
by hand is never replaced without being asked for, and a file that cannot be read is listed with
its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from engine.spec.mp4_comment import read_comment
from lightx2v_tui import presets
from lightx2v_tui.output import printable
from lightx2v_tui.paths import expanded, presets_dir
from lightx2v_tui.presets import MAX_PRESET_BYTES, Preset, PresetError

SUFFIX = ".json"
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov"})
MAX_NAME = 80  # characters
MAX_NAME_BYTES = 200  # of a file's name there may be 255, and the app's temporary ones are longer


class ExistsError(PresetError):
    """There is a preset of that name; `own` is False where replacing it loses someone's words."""

    def __init__(self, name: str, path: Path, *, own: bool) -> None:
        who = "" if own else ", and was not written by this app: its comments would be lost"
        super().__init__(
            f"There is a preset “{name}” already", f"{path} exists{who}", "Take another name."
        )
        self.own = own


@dataclass(frozen=True)
class SavedPreset:
    """One file of the library; `preset` is None where it cannot be read, and `problem` says why."""

    name: str
    path: Path
    when: float  # seconds since 1970
    preset: Preset | None = None
    problem: str = ""

    @property
    def summary(self) -> str:
        """What it is for, in one line."""
        return self.problem if self.preset is None else summary(self.preset)


def saved_presets() -> tuple[SavedPreset, ...]:
    """List the saved presets by name; broken ones too."""
    try:
        paths = [path for path in presets_dir().iterdir() if _is_listed(path)]
    except OSError:  # none was saved yet, or the folder is not for us
        return ()
    return tuple(_look_at(path) for path in sorted(paths, key=lambda p: (p.stem.lower(), p.name)))


def summary(preset: Preset) -> str:
    """Model, precision, size and frames in one line."""
    facts = [preset.model_path.name if preset.model_path else "any model"]
    precision = preset.dit_precision
    facts.append(f"DiT {precision.value}" if precision else "DiT of any precision")
    size = (preset.width, preset.height, preset.frames)
    if None not in size:
        facts.append("x".join(map(str, size)))
    return printable(", ".join(facts))


def details(preset: Preset) -> tuple[str, ...]:
    """What the one-line summary has no room for: precisions, numbers, LoRAs, prompt."""
    kinds = {"DiT": preset.dit_precision, "T5": preset.t5_precision, "CLIP": preset.clip_precision}
    networks = [f"{name} {precision.value}" for name, precision in kinds.items() if precision]
    if preset.use_tiny_vae is not None:
        networks.append("tiny VAE" if preset.use_tiny_vae else "full VAE")
    steps = len(preset.timesteps) if preset.timesteps else preset.infer_steps
    numbers = {
        "{} steps": steps, "{} fps": preset.fps, "seed {}": preset.seed,
        "guidance {:g}": preset.guidance_scale if preset.enable_cfg else None,
    }  # fmt: skip
    told = [text.format(value) for text, value in numbers.items() if value is not None]
    loras = [f"{lora.path.stem} {lora.strength:g}" for lora in preset.loras or ()]
    size = (preset.width, preset.height, preset.frames)
    if None not in size:
        told.insert(0, "{}x{}, {} frames".format(*size))
    lines = (", ".join(networks), ", ".join(told), f"LoRA {', '.join(loras)}" if loras else "",
             " ".join((preset.prompt or "").split()))  # fmt: skip
    return tuple(printable(line) for line in lines if line)


def path_of(name: str) -> Path:
    """The file of a preset's name.

    Raises:
        PresetError: it is no name that a file can have.
    """
    if reason := reason_against_name(name):
        raise PresetError(f"“{printable(name)[:MAX_NAME]}” is not a name", reason, "Take another.")
    return presets_dir() / f"{name.strip()}{SUFFIX}"


def reason_against_name(name: str) -> str:
    """Say why a preset cannot have a name; empty where it can."""
    stripped = name.strip()
    wrong = {
        "a name is needed": not stripped,
        "a name cannot begin with a dot": stripped.startswith("."),
        "a name has no slashes": "/" in stripped or "\\" in stripped,
        "a name has no control characters": printable(stripped) != stripped,
        f"a name has at most {MAX_NAME} characters": len(stripped) > MAX_NAME
        or len(stripped.encode(errors="replace")) > MAX_NAME_BYTES,
        "it holds half a character": any("\ud800" <= letter <= "\udfff" for letter in stripped),
    }
    return next((reason for reason, is_so in wrong.items() if is_so), "")


def proposed_name(preset: Preset) -> str:
    """A name for a preset that has none: its model and precision."""
    model = preset.model_path.name if preset.model_path else "preset"
    precision = f" {preset.dit_precision.value}" if preset.dit_precision else ""
    clean = printable(model).replace("?", "").lstrip(". ")[: MAX_NAME - len(precision)]
    name = f"{clean or 'preset'}{precision}"
    return "preset" if reason_against_name(name) else name


def save(name: str, preset: Preset, *, replacing: bool = False) -> Path:
    """Save a preset by name, whole or not at all; gives its file.

    Raises:
        ExistsError: there is one of that name, and it is not to be replaced.
        PresetError: the name is none, or the file cannot be written.
    """
    path = path_of(name)
    _check_free(path, name.strip(), replacing=replacing)
    with _told(f"“{path.stem}” cannot be saved", path):
        presets.save(preset, path)
    return path


def rename(saved: Path, name: str) -> Path:
    """Give a saved preset another name; gives its new file.

    Raises:
        ExistsError: there is one of that name.
        PresetError: the name is none, or the file cannot be renamed.
    """
    path = path_of(name)
    if path == saved:
        return path
    with _told(f"“{saved.stem}” cannot be renamed", saved):
        try:
            os.link(saved, path, follow_symlinks=False)  # unlike renaming, it replaces nothing
        except FileExistsError:
            raise ExistsError(name.strip(), path, own=presets.is_own(path)) from None
        except OSError:  # this disk has no hard links
            _check_free(path, name.strip(), replacing=False)
            saved.rename(path)
        else:
            saved.unlink()
    return path


def delete(saved: Path) -> None:
    """Delete a saved preset.

    Raises:
        PresetError: it cannot be deleted, or is no file of the library.
    """
    if saved.parent != presets_dir():
        raise PresetError(f"{saved.name} is not deleted", f"{saved} is not a saved preset", "")
    with _told(f"“{saved.stem}” cannot be deleted", saved):
        saved.unlink()


def open_file(path: Path) -> Preset:
    """Read a preset file, or the settings that a video carries.

    Raises:
        EngineError: neither is in the file.
    """
    full = expanded(path).absolute()
    return from_video(full) if full.suffix.lower() in VIDEO_SUFFIXES else presets.read(full)


def from_video(path: Path) -> Preset:
    """The preset that made a video, out of the video itself.

    A video may come from anybody: what names a place to write to is left out.

    Raises:
        EngineError: the file is no mp4, or carries no settings.
    """
    text = read_comment(path, MAX_PRESET_BYTES)
    if not text.strip():
        raise PresetError(
            f"{path.name} carries no settings",
            f"{path}: the video has no comment",
            "Name a video that this app made.",
        )
    try:
        preset = presets.parse(text, f"the settings in {path.name}")
    except PresetError as error:
        raise PresetError(
            f"{path.name} carries no settings that can be used",
            f"{printable(error.what)} ({printable(error.why)})",
            "Name a video that this app made.",
        ) from error
    return _harmless(preset)


def _harmless(preset: Preset) -> Preset:
    own = {key: value for key, value in preset.own_extra.items() if key != "save_tensors"}
    return replace(
        preset,
        output=None,
        own_extra=own,
        prompt=_plain(preset.prompt),
        negative_prompt=_plain(preset.negative_prompt),
    )


def _plain(text: str | None) -> str | None:
    return None if text is None else printable(text, keep="\n\t")


def _is_listed(path: Path) -> bool:
    return path.suffix == SUFFIX and not path.name.startswith(".")


def _look_at(path: Path) -> SavedPreset:
    try:
        when = path.stat().st_mtime
    except OSError:
        when = 0.0
    try:
        return SavedPreset(path.stem, path, when, presets.read(path))
    except PresetError as error:
        return SavedPreset(path.stem, path, when, problem=f"{error.what} ({error.why})")


def _check_free(path: Path, name: str, *, replacing: bool) -> None:
    if not os.path.lexists(path):
        return
    if path.exists() and not path.is_file():
        why = f"{path} is not a file"
        raise PresetError(f"“{name}” cannot be saved", why, "Take another name.")
    if not replacing:
        raise ExistsError(name, path, own=presets.is_own(path))


@contextmanager
def _told(what: str, path: Path) -> Iterator[None]:
    """Tell in words what the disk refuses."""
    try:
        yield
    except OSError as error:
        raise PresetError(what, f"{path}: {error.strerror or error}", "") from error
