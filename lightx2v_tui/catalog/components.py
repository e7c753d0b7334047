"""Recognise weight files by their headers: which network, which precision, and whether whole.

File names only say what a broken file was meant to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from engine.spec.architecture import DitArchitecture
from engine.spec.errors import CheckpointError
from engine.spec.header import Header, read_header
from engine.spec.keys import COMFY_EXTRAS, COMFY_SCALE, dit_names
from engine.spec.precision import CODE_DTYPES, Precision
from lightx2v_tui.catalog.model import Component, Kind

SUFFIXES = {".safetensors", ".pth", ".pt"}
MAX_CONFIG_BYTES = 1_000_000
#: A tensor that only this kind of network has, as a pattern on its name.
MARKS = (
    (Kind.LORA, r".*\.(lora_(A|B|up|down)(\..*)?\.weight|diff|diff_b|diff_m)"),
    (Kind.T5, r"token_embedding\.weight|blocks\.\d+\.pos_embedding\.embedding\.weight"),
    (Kind.CLIP, r"visual\.(patch_embedding|transformer\.\d+)\..*"),
    (Kind.VAE, r"decoder\.(middle|upsamples)\.\d+\..*"),
    (Kind.TINY_VAE, r"decoder\.\d+\.(conv\.0\.)?weight"),
    (
        Kind.DIT,
        r"(.*\.)?(patch_embedding\.weight|blocks\.\d+\.(self_attn|cross_attn|attn1|attn2|ffn)\..*)",
    ),
)
#: What a file is meant to be where its header cannot be read.
NAMES = (
    (Kind.T5, r"models_t5|umt5"),
    (Kind.CLIP, r"clip"),
    (Kind.TINY_VAE, r"tae"),
    (Kind.VAE, r"vae"),
    (Kind.LORA, r"lora"),
    (Kind.DIT, r"block|distill_model|diffusion_pytorch_model|wan2"),
)
SCALE_SUFFIX = "_scale"  # NVFP4 keeps its scales in FP8
FLOATS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}


def find_components(folder: Path, names: Iterable[str]) -> dict[Kind, Component]:
    """Recognise the components among the files `names` of one folder."""
    headers: dict[Kind, list[Header]] = {}
    broken: dict[Kind, list[tuple[Path, str]]] = {}
    for name in sorted(names):
        path = folder / name
        if path.suffix.lower() not in SUFFIXES or name.startswith("."):
            continue
        try:
            header = read_header(path)
        except CheckpointError as error:
            if (kind := _by_name(name)) is not None:
                broken.setdefault(kind, []).append((path, f"{error.what}: {error.why}"))
            continue
        if (kind := kind_of(header)) is not None:
            headers.setdefault(kind, []).append(header)
    return {
        kind: _component(kind, folder, headers.get(kind, []), broken.get(kind, []))
        for kind in Kind
        if kind in headers or kind in broken
    }


def component_at(path: Path, kind: Kind) -> Component:
    """Recognise one component that a preset names by its file or folder.

    Raises:
        CheckpointError: there is none of this kind at `path`.
    """
    folder = path if path.is_dir() else path.parent
    try:
        names = [entry.name for entry in folder.iterdir()] if path.is_dir() else [path.name]
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path}", str(error), "Check the path and its permissions."
        ) from error
    if not path.is_dir():
        read_header(path)  # says best what is wrong with a file
    found = find_components(folder, names).get(kind)
    if found is None:
        raise CheckpointError(
            f"There is no {kind.value} at {path.name}",
            f"{path}: no file of that network was recognised",
            "Give the file, or for block folders the folder, of that component.",
        )
    return found


def kind_of(header: Header) -> Kind | None:
    """Say which network a file belongs to, from its tensor names."""
    for kind, pattern in MARKS:
        if any(re.fullmatch(pattern, name) for name in header.tensors):
            return kind
    # non_block.safetensors of a block folder holds the DiT's embeddings and head
    return Kind.DIT if any("head.modulation" in name for name in header.tensors) else None


def read_config(folder: Path) -> Mapping[str, object]:
    """Read `config.json` of a folder; empty where there is none.

    Raises:
        CheckpointError: the file is there but is not a JSON object.
    """
    path = folder / "config.json"
    try:
        with path.open("rb") as file:
            value = json.loads(file.read(MAX_CONFIG_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _bad_config(path, str(error)) from error
    if not isinstance(value, dict):
        raise _bad_config(path, f"it holds a {type(value).__name__}, not an object")
    return value


def _bad_config(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path.parent.name}/config.json is not JSON",
        f"{path}: {why}",
        "Download config.json again, or delete it: sizes are read from the weights.",
    )


def _by_name(name: str) -> Kind | None:
    lower = name.lower()
    return next((kind for kind, pattern in NAMES if re.search(pattern, lower)), None)


def _component(
    kind: Kind, folder: Path, headers: Sequence[Header], broken: Sequence[tuple[Path, str]]
) -> Component:
    problems = [reason for _, reason in broken]
    problems += _unscaled(headers)
    scheme, precision = _scheme(headers) if headers else ("unreadable", None)
    architecture = None
    if kind is Kind.DIT:
        problems += _doubled(headers)
        problems += _missing_files(folder, [*(h.path for h in headers), *(p for p, _ in broken)])
        try:
            architecture = _dit_architecture(folder, headers)
        except CheckpointError as error:
            if not broken:  # else it only says what follows from the broken file
                problems.append(f"{error.what}: {error.why}")
    elif kind is not Kind.LORA and len(headers) > 1:
        problems.append(f"two files are this network: {', '.join(h.path.name for h in headers)}")
    return Component(
        kind=kind,
        files=tuple(header.path for header in headers),
        nbytes=sum(header.file_bytes for header in headers),
        layout=_layout(headers),
        scheme=scheme,
        precision=precision,
        architecture=architecture,
        problems=tuple(problems),
    )


def _doubled(headers: Sequence[Header]) -> list[str]:
    """Files that hold a tensor another file holds too: two models in one folder."""
    owner: dict[str, str] = {}
    for header in headers:
        for name in header.tensors:
            other = owner.setdefault(name, header.path.name)
            if other != header.path.name:
                return [f"{other} and {header.path.name} both hold {name}"]
    return []


def _layout(headers: Sequence[Header]) -> str:
    if any(re.fullmatch(r"block_\d+\.safetensors", header.path.name) for header in headers):
        return "blocks"
    return "file" if len(headers) <= 1 else "shards"


def _scheme(headers: Sequence[Header]) -> tuple[str, Precision | None]:
    """Say what the weights are stored as; the second part is None where it is not computed."""
    stored = {name: info.dtype for header in headers for name, info in header.tensors.items()}
    dtypes = {dtype for name, dtype in stored.items() if _leaf(name) not in COMFY_EXTRAS}
    codes = {CODE_DTYPES[dtype] for dtype in dtypes if dtype in CODE_DTYPES}
    if len(codes) == 1 and dtypes <= {*FLOATS, *CODE_DTYPES, "I64"}:
        precision = next(iter(codes))
        if precision is Precision.INT8 and any(_leaf(name) == "comfy_quant" for name in stored):
            return "int8 in ComfyUI's own way", None
        return precision.value, precision
    if not codes and dtypes <= {*FLOATS, "I64"}:
        name = next((name for dtype, name in FLOATS.items() if dtype in dtypes), "bf16")
        return name, Precision.BF16
    return "+".join(sorted(dtypes)).lower(), None


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def _unscaled(headers: Sequence[Header]) -> list[str]:
    """Codes that have no scale: they mean nothing, and would become noise."""
    stored = {name: info.dtype for header in headers for name, info in header.tensors.items()}
    return [
        f"{header.path.name}: {name} has {info.dtype} codes but no scale"
        for header in headers
        for name, info in header.tensors.items()
        if info.dtype in CODE_DTYPES
        and not name.endswith(SCALE_SUFFIX)
        and not _has_scale(name, stored)
    ][:1]


def _has_scale(name: str, stored: Mapping[str, str]) -> bool:
    """Say whether codes have a scale, under LightX2V's name or ComfyUI's."""
    path, _, leaf = name.rpartition(".")
    if leaf in COMFY_EXTRAS:
        return True  # a marker, not a weight
    scales = (f"{name}_scale", f"{path}.{COMFY_SCALE}")
    return any(stored.get(scale) in FLOATS for scale in scales)


def _missing_files(folder: Path, present: Sequence[Path]) -> list[str]:
    """Files that the folder's index names but that are not there."""
    names = {path.name for path in present}
    problems = []
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            with index.open("rb") as file:
                weight_map = json.loads(file.read(64 << 20))["weight_map"]
            listed = {str(name) for name in weight_map.values()}
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            problems.append(f"{index.name} is damaged; download it again")
            continue
        absent = sorted(listed - names)
        if absent:
            problems.append(f"{len(absent)} of {len(listed)} files missing: {_some(absent)}")
    return problems


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _dit_architecture(folder: Path, headers: Sequence[Header]) -> DitArchitecture:
    stored = {name: info.shape for header in headers for name, info in header.tensors.items()}
    names = dit_names(stored)
    config = read_config(folder)
    shapes = {names[name]: shape for name, shape in stored.items() if name in names}
    architecture = DitArchitecture.from_shapes(shapes, config)
    layers = config.get("num_layers")
    if isinstance(layers, int) and layers > architecture.num_layers:
        raise CheckpointError(
            "Blocks are missing",
            f"config.json says {layers} blocks, the files hold {architecture.num_layers}",
            "Download the missing block files.",
        )
    return architecture
