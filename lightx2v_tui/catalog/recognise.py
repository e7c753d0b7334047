"""Recognise weight files by their headers: which network, whose names, which precision.

File names only say what a broken file was meant to be, and break ties that no header settles:
whether a model is step-distilled, and which expert of a Wan 2.2 pair it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from engine.spec import gguf
from engine.spec.alike import AlikeBlocks
from engine.spec.header import Header, TensorInfo, read_header
from engine.spec.keys import COMFY_EXTRAS, COMFY_SCALE
from engine.spec.precision import CODE_DTYPES, Precision
from lightx2v_tui.catalog.files import HEARTBEAT
from lightx2v_tui.catalog.model import Kind

MAX_NAME = 300  # letters of a tensor's name; real ones have a third of it
MAX_NAMES = 2000  # how far into a header to look for a name that tells: a language model has more
#: Tensor names that tell which network a file belongs to, and whose names they are.
MARKS = (
    (Kind.LORA, "wan", r".*[._](?:lora_(?:A|B|up|down)(?:\..*)?\.weight|diff|diff_b|diff_m)"),
    (Kind.T5, "wan",
     r"token_embedding\.weight|blocks\.\d+\.(?:attn|pos_embedding|ffn\.(?:gate|fc\d))\..*"),
    (Kind.T5, "transformers", r"encoder\.block\.\d+\.layer\..*"),
    (Kind.T5, "gguf", r"enc\.blk\.\d+\..*"),
    (Kind.CLIP, "wan", r"visual\.(?:patch_embedding|transformer\.\d+)\..*"),
    (Kind.CLIP, "transformers", r"vision_model\.(?:embeddings|encoder)\..*"),
    (Kind.VAE, "wan", r"(?:de|en)coder\.(?:middle|upsamples|downsamples)\.\d+\..*"),
    (Kind.VAE, "diffusers", r"decoder\.(?:mid_block|up_blocks)\..*"),
    (Kind.TINY_VAE, "wan", r"decoder\.\d+\.(?:conv\.0\.)?weight"),
    (Kind.DIT, "diffusers", r"(?:.*\.)?blocks\.\d+\.(?:attn[12]|ffn\.net)\..*|"
     r"condition_embedder\..*"),
    (Kind.DIT, "prefixed", r"(?:model\.)?diffusion_model\."
     r"(?:patch_embedding\.weight|blocks\.\d+\.(?:self_attn|cross_attn|ffn)\..*)"),
    (Kind.DIT, "wan", r"head\.modulation|(?:text|time)_embedding\..*|"
     r"blocks\.\d+\.(?:self_attn|cross_attn|ffn)\..*"),
)  # fmt: skip
_MARKS = re.compile("|".join(f"({pattern})" for _, _, pattern in MARKS), re.DOTALL)
#: What a file is meant to be where its header cannot be read.
NAMES = (
    (Kind.LORA, r"lora"), (Kind.T5, r"models_t5|umt5"), (Kind.CLIP, r"clip"),
    (Kind.TINY_VAE, r"tae"), (Kind.VAE, r"vae"),
    (Kind.DIT, r"distill_model|(?:block|diffusion_pytorch_model|wan2).*\.(?:safetensors|gguf)"),
)  # fmt: skip
#: The folders of a diffusers pipeline, whose files are all called alike.
PIPELINE = {
    "transformer": Kind.DIT, "transformer_2": Kind.DIT, "text_encoder": Kind.T5,
    "image_encoder": Kind.CLIP, "vae": Kind.VAE,
}  # fmt: skip
FLOATS = {"BF16": "bf16", "F16": "fp16", "F32": "fp32", "F64": "fp64"}
SCALE_SUFFIX = "_scale"  # NVFP4 keeps its scales in FP8
#: Scales that only block formats of four to eight bits have.
BLOCK_SCALES = ("weight_global_scale", "weight_scale_2", "input_global_scale", "alpha")
ODD = frozenset({"U8", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2", "I32"})
MARKERS = frozenset({*COMFY_EXTRAS, "spiece_model"})  # tensors that are no weights
UMT5_MARK = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
STEPS = re.compile(r"distill|\d+[-_]?steps?\b|\d+step|lightning|causvid|self[-_]?forcing")
EXPERT = re.compile(r"(?:^|[-_.])(high|low)[-_]?noise")
EXPERT_OF_WAN22 = re.compile(r"(?:^|[-_.])(high|low)(?=[-_.]|$)")  # in a name that says 2.2
WAN22 = re.compile(r"wan[-_.]?2[-_.]?2")


@dataclass(frozen=True)
class WeightFile:
    """One readable weight file: its header, its network, and what is asked of each of its tensors.

    `blocks` are the numbers of the blocks it holds, `rest` whether it holds anything else,
    `unscaled` names codes that have no scale in this file.
    """

    header: Header
    kind: Kind
    style: str
    dtypes: frozenset[str]
    blocks: frozenset[str]
    rest: bool
    unscaled: tuple[str, ...]


class Recogniser:
    """Recognises the files of one folder; block files that are alike are looked into once."""

    def __init__(self) -> None:
        self._parse = AlikeBlocks()
        self._known: dict[int, WeightFile | None] = {}

    def recognise(self, path: Path) -> WeightFile | None:
        """Read one file's header and say what it is; None where it is nothing of a video model's.

        Raises:
            CheckpointError: the file is damaged, truncated, or no weight file.
        """
        HEARTBEAT.get()()
        if path.suffix.lower() == ".gguf":
            return _weight_file(gguf.read_gguf(path))
        header = read_header(path, self._parse)
        known = self._known.get(id(header.like)) if header.like is not None else None
        if known is not None and len(known.blocks) == 1:
            return _like(known, header)
        file = _weight_file(header)
        self._known[id(header)] = file  # a header that others are like stays alive with `_parse`
        return file


def _like(file: WeightFile, header: Header) -> WeightFile:
    """What a known file says, of one that has another block's number."""
    old, new = f"blocks.{next(iter(file.blocks))}.", header.block
    unscaled = tuple(new + name.removeprefix(old) for name in file.unscaled)
    return replace(file, header=header, blocks=frozenset({new[7:-1]}), unscaled=unscaled)


def _weight_file(header: Header) -> WeightFile | None:
    marked = mark_of(header)
    if marked is None:
        return None
    kind, style = marked
    stored = header.tensors
    dtypes = frozenset({info.dtype for info in stored.values()})
    if header.path.suffix.lower() == ".gguf":
        style = "gguf"
    elif _of_comfyui(header):
        style = "comfyui"
    blocks, rest = _blocks_of(stored)
    coded = not dtypes.isdisjoint(CODE_DTYPES)
    unscaled = tuple(_unscaled(stored, stored)) if coded else ()
    return WeightFile(header, kind, style, dtypes, blocks, rest, unscaled)


def _blocks_of(names: Iterable[str]) -> tuple[frozenset[str], bool]:
    """The numbers of the blocks that tensor names stand in, and whether there are others."""
    numbers, rest, current = set(), False, "\0"
    for name in names:
        if name.startswith(current):
            continue
        if name.startswith("blocks."):
            number = name[7:].partition(".")[0]
            numbers.add(number)
            current = f"blocks.{number}."  # a block's tensors stand together
        else:
            rest = True
    return frozenset(numbers), rest


def mark_of(header: Header) -> tuple[Kind, str] | None:
    """Say which network a file belongs to and whose names it uses, from its tensor names."""
    for name in islice(header.tensors, MAX_NAMES):
        if len(name) > MAX_NAME:
            continue
        match = _MARKS.fullmatch(name)
        if match is not None:
            kind, style, _ = MARKS[(match.lastindex or 1) - 1]
            return None if _of_another_model(kind, style, header) else (kind, style)
    return (Kind.DIT, "wan") if "patch_embedding.weight" in header.tensors else None


def kind_by_name(name: str, folder: str = "") -> Kind | None:
    """What a file is meant to be, from its name alone, or from its folder's in a pipeline."""
    lower = name.lower()
    if folder in PIPELINE and lower.startswith(("model", "diffusion_pytorch_model")):
        return PIPELINE[folder]
    return next((kind for kind, pattern in NAMES if re.search(pattern, lower)), None)


def distilled_by_name(*names: str) -> bool:
    """Whether names say that a model makes its video in a few steps; no header does."""
    return any(STEPS.search(name.lower()) for name in names)


def expert_by_name(name: str) -> str:
    """Which expert of a Wan 2.2 pair a name says: "high", "low" or neither."""
    lower = name.lower()
    match = EXPERT.search(lower)
    if match is None and WAN22.search(lower):
        match = EXPERT_OF_WAN22.search(lower)
    return match[1] if match else ""


def _of_another_model(kind: Kind, style: str, header: Header) -> bool:
    """T5 has positions in its first block only, UMT5 in all; image VAEs have flat kernels."""
    if kind is Kind.T5 and style == "transformers":
        return UMT5_MARK not in header.tensors and not _is_shard(header.path)
    if kind is Kind.VAE and style == "diffusers":
        return all(len(info.shape) != 5 for info in header.tensors.values())
    return False


def _is_shard(path: Path) -> bool:
    return re.search(r"-\d+-of-\d+$", path.stem) is not None


def _of_comfyui(header: Header) -> bool:
    if "_quantization_metadata" in header.metadata:
        return True
    return any(name.endswith((COMFY_SCALE, *COMFY_EXTRAS)) for name in islice(header.tensors, 16))


def scheme_of(files: Sequence[WeightFile]) -> tuple[str, Precision | None]:
    """Say what the weights are stored as; the second part is None where it is not computed."""
    headers = [file.header for file in files]
    marked = any(file.style == "comfyui" for file in files)
    dtypes = {dtype for file in files for dtype in file.dtypes}
    if not dtypes.isdisjoint(ODD) or marked:
        return _scheme_by_names([info for h in headers for info in h.tensors.values()])
    if any(map(_of_ggml, dtypes)):
        return f"gguf {_commonest(headers)}", None
    return _scheme_by_dtypes(dtypes, headers)


def _scheme_by_dtypes(dtypes: set[str], headers: Sequence[Header]) -> tuple[str, Precision | None]:
    codes = {CODE_DTYPES[dtype] for dtype in dtypes if dtype in CODE_DTYPES}
    if not dtypes <= {*FLOATS, *CODE_DTYPES, "I64"} or len(codes) > 1:
        return "+".join(sorted(dtypes)).lower(), None
    if not codes:
        return next((name for dtype, name in FLOATS.items() if dtype in dtypes), "bf16"), (
            Precision.BF16)  # fmt: skip
    precision = next(iter(codes))
    first = [header for header in headers if header.like is None]
    if any(_scaled_by_blocks(header.tensors.values()) for header in first):
        return f"{precision.value} with a scale for every 128 by 128 weights", None
    return precision.value, precision


def _scheme_by_names(stored: Sequence[TensorInfo]) -> tuple[str, Precision | None]:
    """For what dtypes alone do not tell: packed formats, and ComfyUI's markers among the codes."""
    leaves = {_leaf(info.name) for info in stored}
    if "I8" in {info.dtype for info in stored} and "comfy_quant" in leaves:
        return "int8 in ComfyUI's own way", None
    weights = [info for info in stored if _leaf(info.name) not in MARKERS]
    dtypes = {info.dtype for info in weights}
    if not dtypes.isdisjoint(ODD):
        return ("nvfp4" if leaves & {*BLOCK_SCALES} else "mx, four to eight bits"), None
    header = Header(Path(), {info.name: info for info in weights}, 0)
    return _scheme_by_dtypes(dtypes, [header])


def _of_ggml(dtype: str) -> bool:
    return dtype.startswith(("Q", "IQ"))


def _commonest(headers: Sequence[Header]) -> str:
    count: Counter[str] = Counter()
    for header in headers:
        for info in header.tensors.values():
            if info.dtype not in gguf.FLOATS:
                count[info.dtype] += info.nbytes
    return count.most_common(1)[0][0]


def _scaled_by_blocks(stored: Iterable[TensorInfo]) -> bool:
    for info in stored:
        if info.name.endswith(".weight_scale"):
            return len(info.shape) == 2 and info.shape[1] > 1
    return False


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]


def unscaled(files: Sequence[WeightFile]) -> list[str]:
    """Codes that have no scale in any of the files: they mean nothing, and would become noise."""
    if not any(file.unscaled for file in files):
        return []
    stored: dict[str, TensorInfo] = {}
    for file in files:
        stored.update(file.header.tensors)
    for file in files:
        for name in _unscaled({name: stored[name] for name in file.unscaled}, stored):
            return [f"{file.header.path.name}: {name} has {stored[name].dtype} codes but no scale"]
    return []


def _unscaled(names: Mapping[str, TensorInfo], stored: Mapping[str, TensorInfo]) -> Iterator[str]:
    for name, info in names.items():
        if info.dtype in CODE_DTYPES and not name.endswith(SCALE_SUFFIX):
            scale = stored.get(name + SCALE_SUFFIX)
            if (scale is None or scale.dtype not in FLOATS) and not _has_scale(name, stored):
                yield name


def _has_scale(name: str, stored: Mapping[str, TensorInfo]) -> bool:
    """Say whether codes have a scale under ComfyUI's name; its markers need none."""
    path, _, leaf = name.rpartition(".")
    scale = stored.get(f"{path}.{COMFY_SCALE}")
    return leaf in COMFY_EXTRAS or (scale is not None and scale.dtype in FLOATS)
