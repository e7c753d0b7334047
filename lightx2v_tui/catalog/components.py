"""The weight files of one folder, put together: which files are one network, and is it whole."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.spec.architecture import WAN22_CHANNELS, DitArchitecture
from engine.spec.errors import CheckpointError
from engine.spec.header import Header, TensorInfo, read_header
from engine.spec.keys import DIT_PREFIXES, dit_names
from lightx2v_tui.catalog.files import Listing, list_folder, read_config, read_index
from lightx2v_tui.catalog.model import TITLES, Component, Kind, LoraFacts
from lightx2v_tui.catalog.recognise import (
    Recogniser,
    WeightFile,
    expert_by_name,
    kind_by_name,
    scheme_of,
    unscaled,
)

BLOCK_FILE = re.compile(r"(?:non_)?block(?:_\d+)?\.safetensors")
SHARD = re.compile(r"(.+)-\d+-of-\d+")
#: Where a tensor's shape tells what must fit the DiT: its name, and which of its dimensions.
WIDTHS = {
    Kind.T5: (("token_embedding.weight", 1), ("shared.weight", 1)),
    Kind.CLIP: (("visual.patch_embedding.weight", 0),
                ("vision_model.embeddings.patch_embedding.weight", 0)),
    Kind.VAE: (("decoder.conv1.weight", 1), ("decoder.conv_in.weight", 1)),
    Kind.TINY_VAE: (("decoder.1.weight", 1),),
}  # fmt: skip
READ_STYLES = {
    Kind.T5: ("wan",), Kind.CLIP: ("wan",), Kind.VAE: ("wan", "comfyui"), Kind.TINY_VAE: ("wan",),
}  # fmt: skip
WANTED = {
    Kind.T5: "models_t5_umt5-xxl-enc-*.pth", Kind.VAE: "Wan2.1_VAE.pth",
    Kind.TINY_VAE: "taew2_1.pth",
    Kind.CLIP: "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth",
}  # fmt: skip
WAN_LORA = re.compile(r"blocks[._]\d+[._](?:self_attn|cross_attn|attn[12]|ffn)[._]")
READS_HIDDEN = re.compile(r"(?:[._](?:q|k|v|o|ffn[._]0|to_[qkv])[._])lora_(?:A|down)")


@dataclass
class _Group:
    """Files that are one network, while they are gathered."""

    kind: Kind
    files: list[WeightFile] = field(default_factory=list)
    broken: list[tuple[Path, CheckpointError]] = field(default_factory=list)
    listed: frozenset[str] = frozenset()  # by an index
    problems: list[str] = field(default_factory=list)

    @property
    def headers(self) -> list[Header]:
        return [file.header for file in self.files]

    @property
    def names(self) -> set[str]:
        return {*(h.path.name for h in self.headers), *(path.name for path, _ in self.broken)}


def find_components(listing: Listing) -> tuple[Component, ...]:
    """Recognise every network among the weight files of one folder."""
    groups: dict[object, _Group] = {}
    listed, reader = _indexed(listing), Recogniser()
    for name in listing.weights:
        path = listing.path / name
        try:
            file = reader.recognise(path)
            kind = file.kind if file else None
        except CheckpointError as error:
            file, kind = None, kind_by_name(name, listing.path.name)
            if kind is not None:
                key = _key(name, kind, listed, whole=not _is_part(name))
                groups.setdefault(key, _Group(kind)).broken.append((path, error))
            continue
        if file is not None and kind is not None:
            key = _key(name, kind, listed, whole=_is_whole(file))
            groups.setdefault(key, _Group(kind)).files.append(file)
    _add_indexes(groups, listed, listing)
    made = (_component(group, listing.path) for group in groups.values())
    return tuple(component for component in made if component is not None)


def component_at(path: Path, kind: Kind) -> Component:
    """Recognise one component that a preset names by its file or folder.

    Raises:
        CheckpointError: there is none of this kind at `path`, or more than one.
    """
    try:
        listing = list_folder(path) if path.is_dir() else None
    except OSError as error:
        raise CheckpointError(
            f"Cannot read {path}", str(error), "Check the path and its permissions."
        ) from error
    if listing is None:
        read_header(path)  # says best what is wrong with a file
        listing = Listing(path.parent, frozenset(), (path.name,))
    found = [component for component in find_components(listing) if component.kind is kind]
    if len(found) != 1:
        several = ", ".join(sorted(c.files[0].name for c in found if c.files))
        none = "no file of that network was recognised"
        raise CheckpointError(
            f"There is {'more than one' if found else 'no'} {kind.value} at {path.name}",
            f"{path}: {several or none}",
            "Give the file, or for block folders the folder, of that component.",
        )
    return found[0]


def _indexed(listing: Listing) -> dict[str, frozenset[str] | CheckpointError]:
    """Which files each index of a folder names, or what is wrong with it."""
    found: dict[str, frozenset[str] | CheckpointError] = {}
    for name in listing.indexes:
        try:
            found[name] = read_index(listing.path / name)
        except CheckpointError as error:
            found[name] = error
    return found


def _key(
    name: str, kind: Kind, listed: dict[str, frozenset[str] | CheckpointError], *, whole: bool
) -> object:
    """What the files of one network have in common."""
    for index, names in listed.items():
        if isinstance(names, frozenset) and name in names:
            return kind, index
    shard = SHARD.fullmatch(Path(name).stem)
    if shard is not None:
        return kind, shard[1]
    return kind, name if whole or kind is Kind.LORA else "blocks"


def _is_part(name: str) -> bool:
    return bool(BLOCK_FILE.fullmatch(name) or SHARD.fullmatch(Path(name).stem))


def _is_whole(file: WeightFile) -> bool:
    """A DiT is whole where embeddings and head are in one file; blocks of it alone are not."""
    if file.kind is not Kind.DIT:
        return True
    if not file.rest:
        return False
    stored = file.header.tensors
    return any(
        f"{prefix}patch_embedding.weight" in stored
        and (f"{prefix}head.head.weight" in stored or f"{prefix}proj_out.weight" in stored)
        and any("blocks." in name for name in stored)
        for prefix in ("", *DIT_PREFIXES)
    )


def _add_indexes(
    groups: dict[object, _Group],
    listed: dict[str, frozenset[str] | CheckpointError],
    listing: Listing,
) -> None:
    """Give each group its index; a damaged one is a problem of the DiT beside it."""
    for index, names in listed.items():
        if isinstance(names, CheckpointError):
            dits = [group for group in groups.values() if group.kind is Kind.DIT]
            for group in dits[:1]:
                group.problems.append(names.what)
            continue
        owners = [
            group for key, group in groups.items() if isinstance(key, tuple) and key[1] == index
        ]
        kind = Kind.DIT if index.startswith("diffusion_pytorch_model") else Kind.T5
        belongs = "text_encoder" not in listing.path.name or kind is Kind.T5
        there = names.intersection(listing.weights)
        if not owners and belongs and names and not there:  # every file it names is absent
            owners = [groups.setdefault((kind, index), _Group(kind))]
        for group in owners:
            group.listed = names
            _add_unmarked(group, listing.path, there)


def _add_unmarked(group: _Group, folder: Path, there: Iterable[str]) -> None:
    """Add files of an index without a name that tells, such as the few tensors of a last shard."""
    if not group.files:
        return
    like = group.files[0]
    for name in sorted({*there} - group.names):
        try:
            header = read_header(folder / name)
        except CheckpointError as error:
            group.broken.append((folder / name, error))
            continue
        dtypes = frozenset(info.dtype for info in header.tensors.values())
        group.files.append(replace(like, header=header, dtypes=dtypes, blocks=frozenset(),
                                   rest=True, unscaled=()))  # fmt: skip


def _component(group: _Group, folder: Path) -> Component | None:
    kind, headers = group.kind, group.headers
    lora = _lora_facts(headers) if kind is Kind.LORA and headers else None
    if kind is Kind.LORA and headers and lora is None:
        return None  # of another kind of model
    problems = [f"{error.what}: {error.why}" for _, error in group.broken]
    problems += unscaled(group.files) + group.problems + _doubled(group.files)
    problems += _absent(group)
    scheme, precision = scheme_of(group.files) if headers else ("unreadable", None)
    architecture = None
    if kind is Kind.DIT and headers:
        try:
            architecture = _dit_architecture(folder, group.files)
        except CheckpointError as error:
            if not group.broken:  # else it only says what follows from the broken file
                problems.append(f"{error.what}: {error.why}")
            with suppress(CheckpointError):  # the task needs no blocks
                architecture = _without_blocks(folder, group.files)
    style = next((file.style for file in group.files if file.style != "wan"), "wan")
    width = _width(kind, headers)
    return Component(
        kind=kind,
        files=tuple(header.path for header in headers),
        nbytes=sum(header.file_bytes for header in headers),
        layout=_layout(headers),
        scheme=scheme,
        precision=precision,
        architecture=architecture,
        problems=tuple(problems),
        style=style,
        unread=_unread(kind, style, width) if headers and precision else "",
        width=width,
        expert=_expert(folder, headers) if kind is Kind.DIT else "",
        lora=lora,
        fetch=(*(path for path, _ in group.broken),
               *(folder / name for name in sorted(group.listed - group.names))),
        pointer=bool(group.broken) and all("lfs" in e.fix for _, e in group.broken),
    )  # fmt: skip


def _unread(kind: Kind, style: str, width: int) -> str:
    if style == "gguf":
        return "it is a GGUF file, which this engine does not read"
    if style not in READ_STYLES.get(kind, (style,)):
        whose = {"comfyui": "ComfyUI's"}.get(style, f"{style}'")
        return (f"its tensors have {whose} names, which this engine does not read for a "
                f"{TITLES[kind]}; it reads {WANTED[kind]}")  # fmt: skip
    if kind in (Kind.VAE, Kind.TINY_VAE) and width == WAN22_CHANNELS:
        return "it belongs to Wan 2.2 TI2V-5B, which does not run yet"
    return ""


def _doubled(files: Sequence[WeightFile]) -> list[str]:
    """Two files that hold the same tensor: two models in one folder."""
    blocks = [number for file in files for number in file.blocks]
    if len(blocks) == len(set(blocks)) and sum(file.rest for file in files) <= 1:
        return []
    owner: dict[str, str] = {}
    for header in [file.header for file in files]:
        for name in header.tensors:
            other = owner.setdefault(name, header.path.name)
            if other != header.path.name:
                return [f"{other} and {header.path.name} both hold {name}"]
    return []


def _absent(group: _Group) -> list[str]:
    """Files that the index names but that are not there."""
    absent = sorted(group.listed - group.names)
    if not absent:
        return []
    shown = ", ".join(absent[:3]) + (", …" if len(absent) > 3 else "")
    return [f"{len(absent)} of {len(group.listed)} files missing: {shown}"]


def _layout(headers: Sequence[Header]) -> str:
    if any(re.fullmatch(r"block_\d+\.safetensors", header.path.name) for header in headers):
        return "blocks"
    return "file" if len(headers) <= 1 else "shards"


def _width(kind: Kind, headers: Iterable[Header]) -> int:
    for header in headers:
        for name, axis in WIDTHS.get(kind, ()):
            info = header.tensors.get(name)
            if info is not None and len(info.shape) > axis:
                return info.shape[axis]
    return 0


def _expert(folder: Path, headers: Sequence[Header]) -> str:
    names = (*(header.path.name for header in headers[:1]), folder.name)
    return next((expert for name in names if (expert := expert_by_name(name))), "")


def _lora_facts(headers: Sequence[Header]) -> LoraFacts | None:
    names = [name for header in headers for name in header.tensors]
    if not any(WAN_LORA.search(name) for name in names):
        return None
    shapes = {name: info.shape for header in headers for name, info in header.tensors.items()}
    downs = [name for name in names if re.search(r"lora_(?:A|down)", name)]
    rank = max((shapes[name][0] for name in downs if shapes[name]), default=0)
    dims = [
        shapes[name][1] for name in downs if READS_HIDDEN.search(name) and len(shapes[name]) > 1
    ]
    image = any("k_img" in name or "add_k_proj" in name for name in names)
    return LoraFacts(rank, dims[0] if dims else 0, image)


class _Shapes(Mapping[str, tuple[int, ...]]):
    """Shapes by tensor name, and of blocks beyond the first no more than that they are there."""

    def __init__(self, stored: Mapping[str, TensorInfo], blocks: Iterable[str]) -> None:
        self._stored, self._blocks = stored, [f"blocks.{number}." for number in blocks]

    def __getitem__(self, name: str) -> tuple[int, ...]:
        return self._stored[name].shape

    def __iter__(self) -> Iterator[str]:
        return iter((*self._stored, *self._blocks))

    def __len__(self) -> int:
        return len(self._stored) + len(self._blocks)

    def __contains__(self, name: object) -> bool:
        return name in self._stored


def _shapes(files: Sequence[WeightFile]) -> _Shapes:
    """Shapes by Wan's tensor names, whatever names the files use."""
    stored: dict[str, TensorInfo] = {}
    plain = all(file.style == "wan" for file in files)
    for file in files:
        if not plain or file.rest or "0" in file.blocks:
            stored.update(file.header.tensors)
    if not plain:
        names = dit_names(stored)
        stored = {names[name]: info for name, info in stored.items() if name in names}
    return _Shapes(stored, {number for file in files for number in file.blocks})


def _without_blocks(folder: Path, files: Sequence[WeightFile]) -> DitArchitecture:
    """What the tensors outside the blocks tell; no blocks where config.json does not count them."""
    stored = _shapes(files)
    shapes = {name: stored[name] for name in stored if not name.startswith("blocks.")}
    dim = (*shapes.get("patch_embedding.weight", ()), 0)[0]
    shapes["blocks.0.ffn.0.weight"] = (4 * dim, dim)  # stands in: how wide it is, is not asked
    config = read_config(folder)
    layers = config.get("num_layers")
    found = DitArchitecture.from_shapes(shapes, config)
    return replace(found, num_layers=layers if type(layers) is int and layers > 0 else 0)


def _dit_architecture(folder: Path, files: Sequence[WeightFile]) -> DitArchitecture:
    shapes = _shapes(files)
    config = read_config(folder)
    if config.get("dim") not in (None, *shapes.get("patch_embedding.weight", ())[:1]):
        config = {}  # of another model in the same folder
    architecture = DitArchitecture.from_shapes(shapes, config)
    layers = config.get("num_layers")
    if isinstance(layers, int) and layers > architecture.num_layers:
        raise CheckpointError(
            "Blocks are missing",
            f"config.json says {layers} blocks, the files hold {architecture.num_layers}",
            "Download the missing block files.",
        )
    return architecture
