"""LightX2V config JSON <-> a typed `Preset`.

Reads what the guide prints and what people write (comments, trailing commas, both spellings of
renamed keys, `mm_config.mm_type`), keeps keys it does not know, and writes a file that LightX2V
of October 2025 and of today both accept. The app's own values stand under `lightx2v_tui`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.spec.architecture import DitArchitecture
from engine.spec.errors import JobError
from engine.spec.job import Lora
from engine.spec.precision import Precision
from lightx2v_tui import jsonc, store
from lightx2v_tui.preset_keys import KEYS, MM_TYPE, OWN, OWN_KEYS, PASSED_ON, SPELLINGS, Key

MAX_PRESET_BYTES = 4_000_000
MAX_HINTS = 20  # unknown keys that are named one by one


class PresetError(JobError):
    """A preset cannot be used; `what` names file and line."""


@dataclass(frozen=True)
class Preset:
    """What a preset says; None where it says nothing."""

    model_cls: str | None = None
    task: str | None = None
    model_path: Path | None = None
    dit: Path | None = None
    dit_precision: Precision | None = None
    t5: Path | None = None
    t5_precision: Precision | None = None
    tokenizer: Path | None = None
    clip: Path | None = None
    clip_precision: Precision | None = None
    vae: Path | None = None
    tiny_vae: Path | None = None
    use_tiny_vae: bool | None = None
    infer_steps: int | None = None
    timesteps: tuple[int, ...] | None = None
    shift: float | None = None
    enable_cfg: bool | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    frames: int | None = None
    fps: int | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    output: Path | None = None
    image: Path | None = None
    sampler: str | None = None
    batched_guidance: bool | None = None
    loras: tuple[Lora, ...] | None = None
    cpu_offload: bool | None = None
    t5_cpu_offload: bool | None = None
    clip_cpu_offload: bool | None = None
    vae_cpu_offload: bool | None = None
    unload_modules: bool | None = None
    use_tiling_vae: bool | None = None
    tiny_vae_denormalized: bool | None = None
    attention: str | None = None
    architecture: DitArchitecture | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    own_extra: Mapping[str, object] = field(default_factory=dict)
    mm_extra: Mapping[str, object] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read(path: Path, assignments: tuple[str, ...] = ()) -> Preset:
    """Read a preset file; `assignments` are `KEY=VALUE` texts that replace keys of it.

    Raises:
        PresetError: the file cannot be read, is not JSON, or a key has a value of a wrong kind.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_PRESET_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PresetError(
            f"The preset {path.name} cannot be read", f"{path}: {why}", "Check the path."
        ) from error
    if len(text) > MAX_PRESET_BYTES:
        raise PresetError(
            f"The preset {path.name} is too large",
            f"{path}: more than {MAX_PRESET_BYTES // 1_000_000} MB",
            "Give a LightX2V config file.",
        )
    return parse(text, str(path), assignments)


def parse(text: str, source: str, assignments: tuple[str, ...] = ()) -> Preset:
    """Parse the text of a preset; `source` is how errors call it."""
    try:
        raw = jsonc.loads(text)
    except jsonc.JsonError as error:
        raise PresetError(
            f"{source}, line {error.line}: this is not JSON",
            str(error),
            "Comments and trailing commas are fine; quotes, colons and brackets must match.",
        ) from None
    if not isinstance(raw, dict):
        raise PresetError(
            f"{source}: a preset is a JSON object", f"it holds a {_name(raw)}", "Start it with {."
        )
    for assignment in assignments:
        _assign(raw, assignment)
    assigned = frozenset(assignment.partition("=")[0].strip() for assignment in assignments)
    return _typed(raw, Source(source, text, assigned))


@dataclass(frozen=True)
class Source:
    """Where a preset came from, to say in which line something is wrong."""

    name: str
    text: str
    assigned: frozenset[str] = frozenset()

    @cached_property
    def _blanked(self) -> str:
        return jsonc.blank(self.text)

    def at(self, *path: str) -> str:
        """Name the place of a key: the file, and the line where it is known."""
        for key in (".".join(path), path[-1]):
            if key in self.assigned:
                return f"--set {key}"
        line = jsonc.line_in(self._blanked, *path)
        return f"{self.name}, line {line}" if line else self.name


def save(preset: Preset, path: Path) -> None:
    """Write a preset in one step, readable by LightX2V."""
    store.write_json(path, to_json(preset))


def _assign(raw: dict[str, Any], assignment: str) -> None:
    key, equals, value = assignment.partition("=")
    if not equals or not key.strip():
        raise PresetError(
            f"--set {assignment} cannot be read", "it needs the form KEY=VALUE", "e.g. --set fps=24"
        )
    try:
        parsed: object = json.loads(value)
    except ValueError:
        parsed = value
    path = tuple(key.strip().split("."))
    if path[0] in OWN_KEYS and len(path) == 1:
        path = (OWN, *path)
    *parents, leaf = path
    table = raw
    for parent in parents:
        below = table.setdefault(parent, {})
        if not isinstance(below, dict):
            raise PresetError(f"--set {assignment}", f"{parent} is not an object", "Set it whole.")
        table = below
    _forget_other_spellings(raw, path)
    table[leaf] = parsed


def _forget_other_spellings(raw: dict[str, Any], path: tuple[str, ...]) -> None:
    """Remove what else says the same as a key: the value that is set must win."""
    for spelling in SPELLINGS.get(path[-1], ()):
        raw.pop(spelling, None)
    if path == ("mm_config", "mm_type"):
        raw.pop("dit_quant_scheme", None)
        raw.pop("dit_quantized", None)
    elif path == ("dit_quant_scheme",):
        raw.pop("dit_quantized", None)
        if isinstance(raw.get("mm_config"), dict):
            raw["mm_config"].pop("mm_type", None)


def _typed(raw: Mapping[str, Any], source: Source) -> Preset:
    own, config = _table(raw, OWN, source), _table(raw, "mm_config", source)
    values: dict[str, Any] = {}
    for name, key in KEYS.items():
        if raw.get(name) is not None:
            values[key.field] = _convert(raw[name], key, source, name)
    for name, key in OWN_KEYS.items():
        if own.get(name) is not None:
            values[key.field] = _convert(own[name], key, source, OWN, name)
    if config.get("mm_type") is not None:
        values["mm_type"] = _convert(config["mm_type"], MM_TYPE, source, "mm_config", "mm_type")
    values["dit_precision"] = _dit_precision(values, source)
    for kind in ("t5", "clip"):
        values[f"{kind}_precision"] = _encoder_precision(kind, values, source)
    for kind in ("dit", "t5", "clip"):
        _pick_path(kind, values)
    known = {*KEYS, OWN, "mm_config", "patch_size", "vae_stride"}
    extra = {key: value for key, value in raw.items() if key not in known}
    names = Preset.__dataclass_fields__
    return Preset(
        **{key: value for key, value in values.items() if key in names},
        extra=extra,
        own_extra={key: value for key, value in own.items() if key not in OWN_KEYS},
        mm_extra={key: value for key, value in config.items() if key != "mm_type"},
        notes=tuple(_notes(raw, values, extra, source)),
    )


def _table(raw: Mapping[str, Any], name: str, source: Source) -> dict[str, Any]:
    table = raw.get(name)
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise _wrong(source, "an object", table, name)
    return table


def _convert(value: object, key: Key, source: Source, *path: str) -> object:
    converted = key.kind.convert(value)
    if converted is None:
        raise _wrong(source, key.kind.expected, value, *path)
    return converted


def _wrong(source: Source, expected: str, got: object, *path: str) -> PresetError:
    shown = json.dumps(got, ensure_ascii=False, default=str)[:80]
    return PresetError(
        f"{source.at(*path)}: `{path[-1]}` has a wrong value",
        f"expected {expected}, got {shown}",
        f"Correct `{path[-1]}`, or remove it to use the default.",
    )


def _dit_precision(values: Mapping[str, Any], source: Source) -> Precision | None:
    """`dit_quantized` decides; else the scheme, else the guide's `mm_type`, else the paths."""
    if values.get("dit_quantized") is False:
        return Precision.BF16
    for name, path in (("dit_scheme", ("dit_quant_scheme",)),
                       ("mm_type", ("mm_config", "mm_type"))):  # fmt: skip
        if name in values:
            found = _scheme_precision(values[name])
            if found is None:
                raise _wrong(source, "an fp8 or int8 scheme, or Default", values[name], *path)
            return found
    original_only = "dit_original" in values and "dit_quantized_path" not in values
    return Precision.BF16 if original_only else None


def _encoder_precision(kind: str, values: Mapping[str, Any], source: Source) -> Precision | None:
    quantized = values.get(f"{kind}_quantized")
    if quantized is None:
        return Precision.BF16 if f"{kind}_original" in values else None
    if not quantized:
        return Precision.BF16
    found = _scheme_precision(values.get(f"{kind}_scheme", ""))
    if found in (None, Precision.BF16):
        got = values.get(f"{kind}_scheme")
        raise _wrong(source, '"fp8" or "int8"', got, f"{kind}_quant_scheme")
    return found


def _scheme_precision(scheme: str) -> Precision | None:
    text = scheme.lower()
    if text.startswith("default"):
        return Precision.BF16
    return next((p for p in (Precision.FP8, Precision.INT8) if p.value in text), None)


def _pick_path(kind: str, values: dict[str, Any]) -> None:
    """Of the original and the quantized path, keep the one the precision asks for."""
    precision = values.get(f"{kind}_precision")
    original = values.pop(f"{kind}_original", None)
    quantized = values.pop(f"{kind}_quantized_path", None)
    values[kind] = original if precision is Precision.BF16 else quantized or (
        original if precision is None else None)  # fmt: skip


def _notes(
    raw: Mapping[str, Any], values: Mapping[str, Any], extra: Mapping[str, object], source: Source
) -> list[str]:
    notes = []
    for name, spellings in SPELLINGS.items():
        for other in spellings:
            if name in raw and other in raw and raw[name] != raw[other] and name < other:
                newest = next(key for key in reversed(KEYS) if key in (name, other))
                notes.append(f"{source.at(name)}: `{name}` and `{other}` disagree; "
                             f"`{newest}` is used")  # fmt: skip
    schemes = [values[name] for name in ("dit_scheme", "mm_type") if name in values]
    if len({_scheme_precision(scheme) for scheme in schemes}) > 1:
        place = source.at("mm_config", "mm_type")
        notes.append(f"{place}: `mm_type` and `dit_quant_scheme` disagree; the second is used")
    unknown = [key for key in extra if key not in PASSED_ON]
    for key in unknown[:MAX_HINTS]:
        near = difflib.get_close_matches(key, [*KEYS, *PASSED_ON], n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        notes.append(f"{source.at(key)}: `{key}` is not known and is kept{hint}")
    if len(unknown) > MAX_HINTS:
        notes.append(f"{source.name}: {len(unknown) - MAX_HINTS} more keys are not known and kept")
    return notes


def _name(value: object) -> str:
    return {list: "list", str: "string", type(None): "null"}.get(type(value), "number or boolean")


def to_json(preset: Preset) -> dict[str, object]:
    """The preset as a LightX2V config: both spellings of renamed keys, unknown keys kept."""
    table: dict[str, object] = dict(preset.extra)
    for name, key in KEYS.items():
        value = getattr(preset, key.field, None)
        if value is not None:
            table[name] = _plain(value)
    table |= _dit_keys(preset) | _encoder_keys("t5", preset.t5, preset.t5_precision)
    table |= _encoder_keys("clip", preset.clip, preset.clip_precision)
    if preset.architecture is not None:
        table |= _architecture_keys(preset.architecture)
    own = {
        name: _plain(value)
        for name, key in OWN_KEYS.items()
        if (value := getattr(preset, key.field, None)) is not None
    }
    return {**table, OWN: {**preset.own_extra, **own}}


def _dit_keys(preset: Preset) -> dict[str, object]:
    precision, path = preset.dit_precision, preset.dit
    kept = dict(preset.mm_extra)
    if precision is None:
        keys: dict[str, object] = {"mm_config": kept} if kept else {}
        return keys | ({"dit_quantized_ckpt": str(path)} if path else {})
    if not precision.quantized:
        keys = {"dit_quantized": False, "mm_config": {**kept, "mm_type": "Default"}}
        return keys | ({"dit_original_ckpt": str(path)} if path else {})
    name = precision.value
    mm_type = f"W-{name}-channel-sym-A-{name}-channel-sym-dynamic-Vllm"
    keys = {
        "dit_quantized": True,
        "dit_quant_scheme": f"{name}-vllm",
        "mm_config": {**kept, "mm_type": mm_type},
    }
    return keys | ({"dit_quantized_ckpt": str(path)} if path else {})


def _encoder_keys(kind: str, path: Path | None, precision: Precision | None) -> dict[str, object]:
    if precision is None:  # the key that says nothing about the precision when it is read
        return {f"{kind}_quantized_ckpt": str(path)} if path else {}
    keys: dict[str, object] = {f"{kind}_quantized": precision.quantized}
    if precision.quantized:
        keys[f"{kind}_quant_scheme"] = precision.value
    if path is not None:
        keys[f"{kind}_{'quantized' if precision.quantized else 'original'}_ckpt"] = str(path)
    return keys


def _architecture_keys(arch: DitArchitecture) -> dict[str, object]:
    return {
        "dim": arch.dim, "ffn_dim": arch.ffn_dim, "freq_dim": arch.freq_dim,
        "in_dim": arch.in_dim, "out_dim": arch.out_dim, "num_heads": arch.num_heads,
        "num_layers": arch.num_layers, "eps": arch.eps, "text_len": arch.text_len,
        "patch_size": list(arch.patch_size), "vae_stride": [4, 8, 8],
        "num_channels_latents": arch.out_dim,
    }  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Lora):
        return {"path": str(value.path), "strength": value.strength}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def with_values(preset: Preset, **values: object) -> Preset:
    """Replace the fields whose value is not None."""
    given = {name: value for name, value in values.items() if value is not None}
    return replace(preset, **given)  # type: ignore[arg-type] # checked by the dataclass's callers
