"""What the files of a repository make up: variants to choose between, and what all of them share.

Told from names alone: nothing of a repository is here yet. The layouts are those the catalog reads.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Protocol

from engine.spec.errors import JobError
from engine.spec.precision import Precision
from lightx2v_tui.units import size

if TYPE_CHECKING:
    from lightx2v_tui.gpus import Gpu

WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".gguf", ".bin")
DATA = (".json", ".model", ".txt", ".jinja")  # beside weights: shapes, indexes, tokenizers
GUIDE = {"original", "fp8", "int8", "distill_models", "distill_fp8", "distill_int8", "loras"}
EXPERTS = {"high_noise_model", "low_noise_model"}  # of Wan 2.2, which needs both
SHARED = {"google", "xlm-roberta-large", "tokenizer"}
WHOLE = "original"  # what a model in shards at the root is called
#: Files that are a part of something larger, so that their folder is what can be chosen.
PIECE = re.compile(r"(-\d+-of-\d+|^block_\d+|^non_block|^diffusion_pytorch_model|^model(-|\.))")
#: Kinds of network by name, the first that matches; anything else is a DiT.
KINDS = (
    ("lora", re.compile(r"lora", re.IGNORECASE)),
    ("t5", re.compile(r"models_t5|umt5|text_encoder", re.IGNORECASE)),
    ("clip", re.compile(r"clip", re.IGNORECASE)),
    ("vae", re.compile(r"vae|(^|/)(light)?tae", re.IGNORECASE)),
    ("other", re.compile(r"gptq|qwen", re.IGNORECASE)),
)
UNREAD = re.compile(r"nvfp4|mxfp|gptq|\.gguf$", re.IGNORECASE)
FP8, INT8 = re.compile(r"fp8|e4m3", re.IGNORECASE), re.compile(r"int8", re.IGNORECASE)
ALL = "all"


class Digest(Protocol):
    """A checksum under way."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The checksum of all bytes so far."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository; `digest` is its SHA-256, or git's checksum where it is small."""

    path: str
    nbytes: int
    digest: str = ""

    def checksum(self) -> Digest:
        """A new checksum, which ends in `digest` where the file is whole."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.nbytes, usedforsecurity=False)


@dataclass(frozen=True)
class RemoteVariant:
    """What can be chosen: one model in one precision, a network alone, or LoRAs."""

    name: str
    kind: str  # "dit" and what comes with it, "t5", "clip", "vae", "lora" or "other"
    precision: Precision | None  # None: this engine does not compute it, or it has none
    files: tuple[RemoteFile, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its files."""
        return sum(file.nbytes for file in self.files)

    @property
    def network_bytes(self) -> int:
        """Bytes of its DiT alone."""
        return sum(file.nbytes for file in self.files if kind_of(file.path) == self.kind)

    @property
    def usual(self) -> bool:
        """False for what is meant for other programs, or split for loading piece by piece."""
        return "comfyui" not in self.name.lower() and not self.name.endswith("_split")


@dataclass(frozen=True)
class Parts:
    """The variants of a repository, and the files that come with any of them."""

    variants: tuple[RemoteVariant, ...]
    shared: tuple[RemoteFile, ...]

    @property
    def lacks(self) -> tuple[str, ...]:
        """The networks besides the DiT that its DiTs need and the repository does not hold."""
        kinds = {kind_of(file.path) for file in self.shared}
        kinds |= {kind_of(file.path) for variant in self.variants for file in variant.files}
        return tuple(kind for kind in ("t5", "vae") if kind not in kinds) if "dit" in kinds else ()


def kind_of(path: str) -> str:
    """The kind of network that a file's name tells; "data" where it holds no weights."""
    if not path.lower().endswith(WEIGHTS):
        return "data"
    return next((kind for kind, form in KINDS if form.search(path)), "dit")


def parts_of(files: Iterable[RemoteFile]) -> Parts:
    """Sort the files of a repository into variants and what they share."""
    wanted = [file for file in files if _wanted(file.path)]
    if any(file.path == "model_index.json" for file in wanted):
        whole = RemoteVariant("diffusers", "dit", Precision.BF16, tuple(wanted))
        return Parts((whole,), ())
    beside = any("/" not in file.path and kind_of(file.path) == "dit" for file in wanted)
    beside |= any(file.path.partition("/")[0] in EXPERTS for file in wanted)
    groups: dict[str, list[RemoteFile]] = {}
    rest: list[RemoteFile] = []
    for file in wanted:
        name = _unit(file.path, beside=beside)
        (groups.setdefault(name, []) if name else rest).append(file)
    shared = [file for file in rest if not _join(file, groups)]
    variants = [v for name, members in groups.items() for v in _variants(name, members)]
    return Parts(tuple(sorted(variants, key=_order)), tuple(f for f in shared if _is_shared(f)))


def _wanted(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and path.lower().endswith((*WEIGHTS, *DATA))


def _unit(path: str, *, beside: bool) -> str:
    """What a weights file belongs to; empty for data, and for encoders beside their DiT."""
    where = PurePosixPath(path)
    top = where.parts[0] if len(where.parts) > 1 else ""
    if top in GUIDE:
        return top
    kind = kind_of(path)
    if kind == "data" or top in SHARED or (not top and beside and kind in ("t5", "clip", "vae")):
        return ""
    if top in EXPERTS:
        return WHOLE
    if PIECE.search(where.name):
        return str(where.parent) if top else WHOLE
    return re.sub(r"(?<=[_-])(high|low)(?=[_-])", "high+low", str(where.with_suffix("")))


def _join(file: RemoteFile, groups: dict[str, list[RemoteFile]]) -> bool:
    """Put data, such as an index, into the group of its folder; False where there is none."""
    for folder in PurePosixPath(file.path).parents:
        name = WHOLE if str(folder) in EXPERTS else str(folder)
        if name in groups:
            groups[name].append(file)
            return True
    return False


def _is_shared(file: RemoteFile) -> bool:
    top, inner, _ = file.path.partition("/")
    return not inner or top in SHARED


def _variants(name: str, files: Sequence[RemoteFile]) -> list[RemoteVariant]:
    """A group as a variant; single files of one name and two formats are two of them."""
    formats = {PurePosixPath(file.path).suffix for file in files}
    alone = all(str(PurePosixPath(f.path).with_suffix("")) == name for f in files)
    if alone and len(formats) > 1:
        return [_variant(file.path, [file]) for file in files]
    return [_variant(name, files)]


def _variant(name: str, files: Sequence[RemoteFile]) -> RemoteVariant:
    kinds = [kind_of(file.path) for file in files]
    kind = "dit" if "dit" in kinds else next((k for k in kinds if k != "data"), "data")
    return RemoteVariant(name, kind, _precision(name, kind, files), tuple(files))


def _precision(name: str, kind: str, files: Sequence[RemoteFile]) -> Precision | None:
    named = " ".join([name, *(file.path for file in files)])
    if kind not in ("dit", "t5", "clip") or UNREAD.search(named):
        return None
    if FP8.search(named):
        return Precision.FP8
    return Precision.INT8 if INT8.search(named) else Precision.BF16


def _order(variant: RemoteVariant) -> tuple[int, bool, str]:
    """DiTs first, what is meant for other programs after them."""
    kinds = ("dit", "t5", "clip", "vae", "lora", "other", "data")
    return kinds.index(variant.kind), not variant.usual, variant.name.lower()


def recommended(parts: Parts, gpu: Gpu | None) -> RemoteVariant | None:
    """The variant that suits this machine; None where names leave several to choose between."""
    from lightx2v_tui.launch.recommend import recommend

    if len(parts.variants) == 1:
        return parts.variants[0]
    able = [v for v in parts.variants if v.kind == "dit" and v.usual and v.precision is not None]
    exact = max((v.network_bytes for v in able if v.precision is Precision.BF16), default=0)
    for precision in recommend("dit", gpu, exact).order:
        found = [variant for variant in able if variant.precision is precision]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def choose(parts: Parts, names: Sequence[str]) -> tuple[RemoteVariant, ...]:
    """The variants of these names, patterns such as '*fp8*', or precisions; each once.

    Raises:
        JobError: a name fits none of them, or a precision several.
    """
    if ALL in names:
        return parts.variants
    chosen = [variant for name in names for variant in _named(parts, name)]
    return tuple(dict.fromkeys(chosen))


def _named(parts: Parts, name: str) -> list[RemoteVariant]:
    wanted = name.lower().rstrip("/")
    found = [v for v in parts.variants if v.name.lower() == wanted]
    found = found or [v for v in parts.variants if fnmatchcase(v.name.lower(), wanted)]
    if found:
        return found
    of = [v for v in parts.variants if v.precision is not None and v.precision.value == wanted]
    if len(of) == 1:
        return of
    if of:
        why = f"it fits {', '.join(variant.name for variant in of)}"
        raise JobError(f"`{name}` is not one variant", why, "Name one, or a pattern: '*t2v*fp8*'.")
    names = [variant.name for variant in parts.variants]
    near = get_close_matches(wanted, names, 1, 0.5)
    guess = f"Did you mean {near[0]}?" if near else "Choose one of those."
    raise JobError(f"There is no variant `{name}`", f"there are {in_words(parts)}", guess)


def in_words(parts: Parts) -> str:
    """The variants and their sizes, in one line."""
    return ", ".join(f"{v.name} ({size(v.nbytes)})" for v in parts.variants) or "none"
