"""Where published files come from: what a command must name to fetch one.

Names as published on the Hugging Face hub by LightX2V and Wan-AI; nothing here is looked up.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from engine.spec.precision import Precision
from lightx2v_tui.catalog.model import Kind

ENCODERS, AUTOENCODERS = "lightx2v/Encoders", "lightx2v/Autoencoders"
CLIP = "models_clip_open-clip-xlm-roberta-large-vit-huge-14"
#: Repositories of whole models, whose folder people leave as it is called.
MODELS = (
    *(f"lightx2v/Wan2.1-{name}{tail}"
      for name in ("I2V-14B-480P", "I2V-14B-720P", "T2V-14B", "T2V-1.3B")
      for tail in ("-Lightx2v", "-StepDistill-CfgDistill-Lightx2v")),
    "lightx2v/Wan2.1-Distill-Models", "lightx2v/Wan2.2-Distill-Models",
    "lightx2v/Wan2.1-Official-Models", "lightx2v/Wan2.2-Official-Models",
    "lightx2v/Wan2.1-T2V-1.3B-Distill-Models", "lightx2v/Wan2.1-T2V-14B-StepDistill-CfgDistill",
    "lightx2v/Wan2.2-I2V-A14B-Moe-Distill-Lightx2v", "lightx2v/Wan2.2-NVFP4-Sparse",
    ENCODERS, AUTOENCODERS, "lightx2v/Wan2.1-Distill-Loras", "lightx2v/Wan2.2-Distill-Loras",
    *(f"Wan-AI/Wan2.1-{name}{tail}"
      for name in ("T2V-14B", "T2V-1.3B", "I2V-14B-480P", "I2V-14B-720P", "FLF2V-14B-720P",
                   "VACE-1.3B", "VACE-14B")
      for tail in ("", "-Diffusers")),
    *(f"Wan-AI/Wan2.2-{name}{tail}"
      for name in ("T2V-A14B", "I2V-A14B", "TI2V-5B") for tail in ("", "-Diffusers")),
)  # fmt: skip
_BY_NAME = {repository.partition("/")[2].lower(): repository for repository in MODELS}
#: Published files whose own names say where they come from.
_BY_FILE = (
    (r"models_(?:t5|clip)_.*", ENCODERS),
    (r"(?:wan2\.[12]_vae|(?:light)?(?:tae|vae)w2_[12])\.(?:pth|safetensors)", AUTOENCODERS),
    (r"wan2\.1_.*_lightx2v_\d+step(?!.*nvfp4).*", "lightx2v/Wan2.1-Distill-Models"),
    (r"wan2\.2_.*_lightx2v_\d+step(?!.*nvfp4).*", "lightx2v/Wan2.2-Distill-Models"),
    (r"wan2\.1_.*_lightx2v\.safetensors", "lightx2v/Wan2.1-Official-Models"),
)
CACHED = "models--"  # how the names of repositories begin in the hub's cache
CHECKOUT_DEPTH = 4  # how many folders above a file its git checkout may begin
NAMED = 8  # files that a command names one by one; of more it names their folder


def hub_repository(snapshot: Path) -> Path | None:
    """The repository's folder in the hub's cache, for one of its snapshots."""
    above = snapshot.parent.parent
    inside = snapshot.parent.name == "snapshots" and above.name.startswith(CACHED)
    return above if inside else None


def repository_of(root: Path) -> tuple[str, bool]:
    """The repository a folder was downloaded from, and whether it lies in the hub's cache."""
    cached = hub_repository(root)
    if cached is not None:
        return cached.name.removeprefix(CACHED).replace("--", "/", 1), True
    return _BY_NAME.get(root.resolve().name.lower(), ""), False


def fetch_again(root: Path, files: Sequence[Path]) -> str:
    """The command that fetches files of a model; empty where nothing tells its repository."""
    repository, cached = repository_of(root)
    names = [path.relative_to(root) for path in files if path.is_relative_to(root)]
    if repository and names and len(names) <= NAMED:
        force = cached and any(os.path.lexists(path) for path in files)
        return _download(repository, map(str, names), None if cached else root, force=force)
    if repository and names:
        return fetch_like(root, [f"{names[0].parent}/*" if len(names[0].parts) > 1 else "*"])
    known = {_repository_of_file(path.name) for path in files}
    if len(known) == 1 and "" not in known:
        return _download(known.pop(), (path.name for path in files), files[0].parent)
    return ""


def fetch_like(root: Path, patterns: Iterable[str]) -> str:
    """The command that fetches a repository's files of these patterns; empty as above."""
    repository, cached = repository_of(root)
    if not repository:
        return ""
    includes = " ".join(shlex.quote(pattern) for pattern in patterns)
    return f"{_download(repository, [], None if cached else root)} --include {includes}"


def fetch_part(
    kind: Kind | None, precision: Precision | None, folder: Path | None, *, wan22: bool
) -> str:
    """The command that fetches a published part into `folder`, or into the hub's cache.

    None as `kind` is the tokenizer.
    """
    name = precision.value if precision else Precision.BF16.value
    if kind is None:
        return f"{_download(ENCODERS, [], folder)} --include {shlex.quote('google/*')}"
    tail = "" if precision in (None, Precision.BF16) else f"-{name}"
    version = "2" if wan22 else "1"
    repository, file = {
        Kind.T5: (ENCODERS, f"models_t5_umt5-xxl-enc-{name}.pth"),
        Kind.CLIP: (ENCODERS, f"{CLIP}{tail}.pth"),
        Kind.VAE: (AUTOENCODERS, f"Wan2.{version}_VAE.pth"),
        Kind.TINY_VAE: (AUTOENCODERS, f"taew2_{version}.pth"),
    }[kind]
    return _download(repository, [file], folder)


def source_of(fix: str) -> str:
    """The repository that a command of these fetches from; empty where it fetches nothing."""
    words = fix.split()
    return words[2] if words[:2] == ["hf", "download"] and len(words) > 2 else ""


def pull(folder: Path, files: Iterable[Path]) -> str:
    """The command that turns Git LFS pointers into files; empty outside a git checkout."""
    places = [folder, *folder.parents][:CHECKOUT_DEPTH]
    if not any(os.path.lexists(place / ".git") for place in places):
        return ""
    names = ",".join(path.name for path in files)
    return f"git -C {shlex.quote(str(folder))} lfs pull --include {shlex.quote(names)}"


def _repository_of_file(name: str) -> str:
    lower = name.lower()
    return next((found for form, found in _BY_FILE if re.fullmatch(form, lower)), "")


def _download(
    repository: str, names: Iterable[str], into: Path | None, *, force: bool = False
) -> str:
    words = ["hf", "download", repository, *names]
    words += ["--force-download"] if force else []  # the cache trusts a file that is there
    words += ["--local-dir", str(into)] if into is not None else []
    return shlex.join(words)
