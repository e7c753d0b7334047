"""A `Preset` as the text of a LightX2V config.

Reading what is written here and writing it again gives the same bytes: keys have one order, and
what the file said in its own words stays in them.
"""

from __future__ import annotations

import json
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from lightx2v_tui import store
from lightx2v_tui.presets.keys import ARCHITECTURE, KEYS, OWN, OWN_KEYS, plain
from lightx2v_tui.presets.model import Preset, PresetError
from lightx2v_tui.presets.networks import NETWORKS, Network, write_network

ORDER = (*KEYS, "mm_config", *ARCHITECTURE)
#: JSON lets these stand in texts as they are, and a terminal that shows the file would obey them.
ESCAPED = {code: f"\\u{code:04x}" for code in (127, *range(128, 160))}


def to_json(preset: Preset) -> dict[str, object]:
    """The preset as a LightX2V config: both spellings of renamed keys, unknown keys kept."""
    table: dict[str, object] = {}
    for name, key in KEYS.items():
        value = getattr(preset, key.field, None)
        if value is not None:
            table[name] = key.kind.write(value, preset.words.get(name))
    for kind in NETWORKS:
        network = Network(getattr(preset, f"{kind}_precision"), getattr(preset, kind))
        table |= write_network(kind, network, preset.words)
    table |= _mm_config(preset, table.pop("mm_type", None))
    if preset.architecture is not None:
        table |= _architecture_keys(preset.architecture)
    table = {**preset.extra, **table}
    ordered = {name: table[name] for name in ORDER if name in table}
    return {**ordered, **{k: v for k, v in table.items() if k not in ordered}, OWN: _own(preset)}


def dumps(preset: Preset) -> str:
    """The text of a preset's file: strict JSON.

    Raises:
        PresetError: a value is not finite, which JSON has no word for.
    """
    try:
        text = json.dumps(to_json(preset), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        raise PresetError(
            "The preset cannot be written", str(error), "Give a number that is finite."
        ) from error
    return text.translate(ESCAPED).encode("utf-8", "backslashreplace").decode("utf-8")


def save(preset: Preset, path: Path) -> None:
    """Write a preset in one step, readable by LightX2V."""
    store.write_text(path, dumps(preset))


def _own(preset: Preset) -> dict[str, object]:
    own = {
        name: plain(value)
        for name, key in OWN_KEYS.items()
        if (value := getattr(preset, key.field, None)) is not None
    }
    return {**preset.own_extra, **own}


def _mm_config(preset: Preset, mm_type: object) -> dict[str, object]:
    table = dict(preset.mm_extra) | ({} if mm_type is None else {"mm_type": mm_type})
    return {"mm_config": table} if table else {}


def _architecture_keys(arch: DitArchitecture) -> dict[str, object]:
    return {
        "dim": arch.dim, "ffn_dim": arch.ffn_dim, "freq_dim": arch.freq_dim,
        "in_dim": arch.in_dim, "out_dim": arch.out_dim, "num_heads": arch.num_heads,
        "num_layers": arch.num_layers, "eps": arch.eps, "text_len": arch.text_len,
        "patch_size": list(arch.patch_size), "vae_stride": [4, 8, 8],
        "num_channels_latents": arch.out_dim,
    }  # fmt: skip
