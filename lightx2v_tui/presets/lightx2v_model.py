"""What LightX2V makes of the model a config is about: its folder, and its DiT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lightx2v_tui.presets.keys import ARCHITECTURE
from lightx2v_tui.presets.lightx2v_config import Config, Difference, Rule, shown

#: Where it looks for a config.json in the model's folder; the first one found counts.
CONFIG_FOLDERS = (".", "low_noise_model", "distill_models/low_noise_model", "original")
#: Sizes without which LightX2V does not start.
NEEDED = ("dim", "ffn_dim", "freq_dim", "in_dim", "num_heads", "num_layers", "eps")
#: Of a DiT's sizes, those that its tensors do not show.
UNSEEN = ("num_heads", "eps", "text_len")
#: Whose names a DiT's tensors may have, beside Wan's own; LightX2V reads none of them.
STYLES = {"comfyui": "ComfyUI's", "prefixed": "ComfyUI's", "diffusers": "diffusers'"}


def folder_configs(config: Config) -> Iterator[Difference]:
    """The config.json of the model's folder is read after the preset, and wins."""
    winning: dict[str, tuple[object, Path]] = {}
    for found in config.around.configs:
        if found.broken:
            stops = f"it stops: {found.broken}"
            yield Difference(str(found.path), stops, stops, "sizes come from the weights")
        winning |= {key: (value, found.path) for key, value in found.values.items()}
    for key, (value, path) in winning.items():
        if key in config.said and config.said[key] != value:
            theirs = f"{shown(value)}, from {path}"
            yield Difference(key, theirs, theirs, _size_here(key, config.said[key]))
    missing = [key for key in NEEDED if key not in config.said and key not in winning]
    if missing and config.preset.model_path is not None:
        stops = "it stops: no config.json of the model says them"
        names = ", ".join(missing)
        yield Difference(f"{names} (absent)", stops, stops, "the weights say them")


def _size_here(key: str, said: object) -> str:
    if key in UNSEEN:
        return "the config.json beside the DiT says it"
    return "the weights say it" if key in ARCHITECTURE else shown(said)


def _style(config: Config) -> Iterator[Difference]:
    dit = config.around.dit
    if dit is not None and dit.style in STYLES:
        key = f"dit_{'quantized' if config.quantized else 'original'}_ckpt"
        stops = f"it stops: the tensors have {STYLES[dit.style]} names, which it does not read"
        name = key if key in config.said else f"{key} (absent)"
        yield Difference(name, stops, stops, "read, under Wan's names")


def _task(config: Config) -> Iterator[Difference]:
    task, dit = config.said.get("task"), config.around.dit
    if task is None or dit is None or dit.architecture is None:
        return
    actual = dit.architecture.task
    if task != actual and not (actual == "ti2v" and task in ("t2v", "i2v")):
        wrong = f"it runs as {task}, whose inputs do not fit this DiT"
        yield Difference("task", wrong, wrong, f"{actual}, as the DiT's tensors say")


def _family(config: Config) -> Iterator[Difference]:
    said, dit = config.preset.model_cls, config.around.dit
    if said is None or dit is None or dit.architecture is None:
        return
    family = "wan2.2" if dit.expert else dit.architecture.family
    if not said.startswith(family):
        wrong = f"it runs as {said}, which looks for other files than those of {family}"
        yield Difference("model_cls", wrong, wrong, f"{family}, as the DiT's tensors say")


DIT_RULES: tuple[Rule, ...] = (_style, _task, _family)
