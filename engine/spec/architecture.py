"""The sizes of a network, read from its own tensors; `config.json` only says what shapes cannot.

Nothing here knows the 14B or the 1.3B model: a tiny model with the same key names runs through
the same code. Shapes are given by Wan's tensor names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from engine.spec.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
Config = Mapping[str, object]

PUBLISHED_HEAD_DIM = 128  # every published Wan DiT; a `config.json` may say otherwise
CLIP_HEAD_DIM = 80  # ViT-H: 1280 wide, 16 heads
LATENT_CHANNELS = 16
WAN22_CHANNELS = 48  # of the VAE that only TI2V-5B has
#: Tensors of networks that were made from Wan's, and what LightX2V calls their task.
RELATIVES = {
    "vace_blocks": "vace", "vace_patch_embedding": "vace", "face_adapter": "animate",
    "motion_encoder": "animate", "casual_audio_encoder": "s2v", "audio_injector": "s2v",
    "control_adapter": "camera", "ref_conv": "control", "audio_proj": "s2v",
}  # fmt: skip
#: What the published sizes are called, by width and blocks.
SIZES = {(5120, 40): "14B", (1536, 30): "1.3B", (3072, 30): "5B"}
SPATIAL_STRIDE = 8
TEMPORAL_STRIDE = 4


@dataclass(frozen=True)
class DitArchitecture:
    """Sizes of a Wan diffusion transformer."""

    dim: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    in_dim: int
    out_dim: int
    text_dim: int
    freq_dim: int
    image_dim: int | None = None
    image_tokens: int = 0  # of both images, in first-and-last-frame models
    text_len: int = 512
    patch_size: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    relative: str = ""  # the task of a network made from Wan's, e.g. "vace"

    @property
    def first_last_frame(self) -> bool:
        """True where the model is told the first and the last frame."""
        return self.image_tokens > 0

    @property
    def task(self) -> str:
        """LightX2V's name of what the checkpoint makes: t2v, i2v, flf2v, ti2v, vace, …"""
        if self.relative:
            return self.relative
        if self.first_last_frame:
            return "flf2v"
        if self.out_dim == WAN22_CHANNELS:
            return "ti2v"
        return "t2v" if self.in_dim == self.out_dim else "i2v"

    @property
    def family(self) -> str:
        """`wan2.2` where the shapes say so; its text-to-video experts are shaped like Wan 2.1."""
        image_without_clip = self.task == "i2v" and self.image_dim is None
        return "wan2.2" if image_without_clip or self.task == "ti2v" else "wan2.1"

    @property
    def size(self) -> str:
        """What people call the size: 14B, 1.3B, or the parameters of the blocks, counted."""
        per_block = 8 * self.dim**2 + 2 * self.dim * self.ffn_dim
        per_block += 2 * self.dim**2 if self.image_dim is not None else 0
        count = per_block * self.num_layers
        counted = f"{count / 1e9:.1f}B" if count >= 1e8 else f"{count / 1e6:.1f}M"
        return SIZES.get((self.dim, self.num_layers), counted)

    @classmethod
    def from_shapes(cls, shapes: Shapes, config: Config) -> DitArchitecture:
        """Read the sizes from tensor shapes (Wan's names) and `config.json`.

        Raises:
            CheckpointError: tensors that every Wan DiT has are absent or contradict each other.
        """
        dim, in_dim, *patch = _shape(shapes, "patch_embedding.weight", rank=5)
        head = _shape(shapes, "head.head.weight", rank=2)[0]
        num_layers = _count(shapes, "blocks.")
        heads = _integer(config, "num_heads", max(1, dim // PUBLISHED_HEAD_DIM))
        if dim % heads or (dim // heads) % 2:
            raise CheckpointError(
                f"The DiT cannot have {heads} heads",
                f"its width is {dim}, which {heads} heads do not divide evenly",
                "Set `num_heads` in the config.json beside the weights.",
            )
        tops = {name.partition(".")[0] for name in shapes if not name.startswith("blocks.")}
        image_dim, image_tokens = None, 0
        if "img_emb.proj.1.weight" in shapes:
            image_dim = _shape(shapes, "img_emb.proj.1.weight", rank=2)[1]
        if "img_emb.emb_pos" in shapes:
            image_tokens = _shape(shapes, "img_emb.emb_pos", rank=3)[1]
        return cls(
            dim=dim,
            ffn_dim=_shape(shapes, "blocks.0.ffn.0.weight", rank=2)[0],
            num_heads=heads,
            num_layers=num_layers,
            in_dim=in_dim,
            out_dim=head // (patch[0] * patch[1] * patch[2]),
            text_dim=_shape(shapes, "text_embedding.0.weight", rank=2)[1],
            freq_dim=_shape(shapes, "time_embedding.0.weight", rank=2)[1],
            image_dim=image_dim,
            image_tokens=image_tokens,
            text_len=_integer(config, "text_len", 512),
            patch_size=(patch[0], patch[1], patch[2]),
            eps=_number(config, "eps", 1e-6),
            relative=next((RELATIVES[top] for top in sorted(tops) if top in RELATIVES), ""),
        )


@dataclass(frozen=True)
class T5Architecture:
    """Sizes of Wan's UMT5 text encoder."""

    vocab_size: int
    dim: int
    dim_attn: int
    dim_ffn: int
    num_heads: int
    num_layers: int
    num_buckets: int

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> T5Architecture:
        """Read the sizes from tensor shapes (Wan's names)."""
        vocab_size, dim = _shape(shapes, "token_embedding.weight", rank=2)
        buckets, heads = _shape(shapes, "blocks.0.pos_embedding.embedding.weight", rank=2)
        return cls(
            vocab_size=vocab_size,
            dim=dim,
            dim_attn=_shape(shapes, "blocks.0.attn.q.weight", rank=2)[0],
            dim_ffn=_shape(shapes, "blocks.0.ffn.fc1.weight", rank=2)[0],
            num_heads=heads,
            num_layers=_count(shapes, "blocks."),
            num_buckets=buckets,
        )


@dataclass(frozen=True)
class VaeArchitecture:
    """Sizes of the Wan 2.1 VAE: base width and latent channels; the topology is fixed."""

    dim: int
    latent_channels: int

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> VaeArchitecture:
        """Read the sizes from tensor shapes (Wan's names)."""
        widest, latent_channels = _shape(shapes, "decoder.conv1.weight", rank=5)[:2]
        narrowest = _shape(shapes, "decoder.head.2.weight", rank=5)[1]
        if widest != 4 * narrowest or latent_channels != LATENT_CHANNELS:
            raise CheckpointError(
                "This is not the Wan 2.1 VAE",
                f"its decoder narrows {widest} to {narrowest} channels and reads "
                f"{latent_channels} latent channels; Wan 2.1 narrows 4 to 1 and reads 16",
                "Wan 2.1 and Wan 2.2 A14B use Wan2.1_VAE; only TI2V-5B uses Wan2.2_VAE.",
            )
        return cls(narrowest, latent_channels)


@dataclass(frozen=True)
class TinyVaeArchitecture:
    """Widths of a tiny VAE's decoder stages (taew2_1: 256, 128, 64, 64)."""

    widths: tuple[int, int, int, int]
    latent_channels: int

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> TinyVaeArchitecture:
        """Read the sizes from tensor shapes (taehv's names)."""
        first, latent_channels = _shape(shapes, "decoder.1.weight", rank=4)[:2]
        widths = tuple(_shape(shapes, f"decoder.{i}.weight", rank=4)[0] for i in (8, 14, 20))
        if latent_channels != LATENT_CHANNELS:
            raise CheckpointError(
                "This tiny VAE is not for Wan 2.1",
                f"it reads {latent_channels} latent channels, Wan 2.1 has {LATENT_CHANNELS}",
                "Use taew2_1; taew2_2 and lighttaew2_2 belong to TI2V-5B.",
            )
        return cls((first, widths[0], widths[1], widths[2]), latent_channels)


@dataclass(frozen=True)
class ClipArchitecture:
    """Sizes of the vision tower of Wan's CLIP."""

    dim: int
    mlp_dim: int
    num_heads: int
    num_layers: int
    patch: int
    num_tokens: int

    @property
    def image_size(self) -> int:
        """Width and height of the image the tower reads."""
        return math.isqrt(self.num_tokens - 1) * self.patch

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> ClipArchitecture:
        """Read the sizes from tensor shapes (Wan's names).

        Raises:
            CheckpointError: there is no vision tower, or its sizes contradict each other.
        """
        dim, _, patch, _ = _shape(shapes, "visual.patch_embedding.weight", rank=4)
        tokens = _shape(shapes, "visual.pos_embedding", rank=3)[1]
        if dim % CLIP_HEAD_DIM or math.isqrt(tokens - 1) ** 2 != tokens - 1:
            raise CheckpointError(
                "This is not Wan's CLIP",
                f"its width is {dim} and it has {tokens} positions; heads are {CLIP_HEAD_DIM} wide "
                "and the image is square",
                "Use models_clip_open-clip-xlm-roberta-large-vit-huge-14.",
            )
        return cls(
            dim=dim,
            mlp_dim=_shape(shapes, "visual.transformer.0.mlp.0.weight", rank=2)[0],
            num_heads=dim // CLIP_HEAD_DIM,
            num_layers=_count(shapes, "visual.transformer."),
            patch=patch,
            num_tokens=tokens,
        )


def _shape(shapes: Shapes, name: str, *, rank: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != rank or 0 in shape:
        found = "it is absent" if shape is None else f"its shape is {list(shape)}"
        raise CheckpointError(
            f"The weights lack a usable tensor {name}",
            f"every network of this kind has it with {rank} dimensions; {found}",
            "Check that all files of the component are there and belong together.",
        )
    return shape


def _count(shapes: Shapes, prefix: str) -> int:
    """Count numbered blocks, which must run from 0 without a gap."""
    numbers, current = set(), "\0"
    for name in shapes:
        if not name.startswith(current) and name.startswith(prefix):
            number = name[len(prefix) :].partition(".")[0]
            numbers.add(number)
            current = f"{prefix}{number}."  # a block's tensors stand together
    found = {int(number[:9]) for number in numbers if number.isascii() and number.isdigit()}
    if not found:
        raise CheckpointError(
            "The weights are incomplete",
            f"no tensor {prefix}N is there",
            "Download the missing files; every block_N.safetensors is needed.",
        )
    highest = max(found)
    missing = sorted(set(range(min(highest + 1, len(found) + 9))) - found)
    if missing:
        listed = ", ".join(map(str, missing[:8]))
        raise CheckpointError(
            "The weights are incomplete",
            f"blocks {listed} are absent, block {highest} is there",
            "Download the missing files; every block_N.safetensors is needed.",
        )
    return len(found)


def _integer(config: Config, key: str, default: int) -> int:
    value = config.get(key, default)
    if type(value) is not int or value < 1:
        raise _bad_config(key, "a positive whole number", value)
    return value


def _number(config: Config, key: str, default: float) -> float:
    value = config.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise _bad_config(key, "a small positive number", value)
    return float(value)


def _bad_config(key: str, expected: str, got: object) -> CheckpointError:
    return CheckpointError(
        f"config.json has an unusable `{key}`",
        f"expected {expected}, got {got!r}",
        "Correct the config.json beside the weights, or delete the key.",
    )
