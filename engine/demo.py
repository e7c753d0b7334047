"""Write a tiny random-weight Wan 2.1 model in the guide's layout: `python -m engine.demo ROOT`.

The files are of the real kinds (bf16 file, FP8 and INT8 block folders, `.pth` encoders, a real
tokenizer, a LoRA), only narrow, so everything that runs on them runs on the published models.
Weights are random but smooth, so that the video is drifting colours and not static.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from engine.models.t5 import Umt5
from engine.models.tiny_vae import TinyVae
from engine.models.vae import WanVae
from engine.models.wan import WanTransformer
from engine.ops.quantize import per_channel
from engine.spec.architecture import (
    DitArchitecture,
    T5Architecture,
    TinyVaeArchitecture,
    VaeArchitecture,
)

SEED = 20251001
DIT = DitArchitecture(
    dim=128,
    ffn_dim=256,
    num_heads=2,
    num_layers=4,
    in_dim=16,
    out_dim=16,
    text_dim=64,
    freq_dim=256,
)  # fmt: skip
T5 = T5Architecture(
    vocab_size=512, dim=64, dim_attn=64, dim_ffn=128, num_heads=4, num_layers=2, num_buckets=32
)
VAE = VaeArchitecture(dim=4, latent_channels=16)
TINY_VAE = TinyVaeArchitecture(widths=(32, 16, 16, 16), latent_channels=16)
LORA_RANK = 4
TEXT = """
A red fox runs across the snow. A small boat drifts on a quiet lake at sunrise, soft mist over
the water. The camera moves slowly through a forest, golden light between tall trees. Waves
break on dark rocks under a stormy sky. A cat sleeps on a warm window sill while rain falls
outside. Two children fly a kite on a green hill. City lights at night, cars passing, neon signs
reflected in wet streets. A close up of a flower opening, petals in the wind. An old train crosses
a bridge over a deep valley. A dancer turns in a bright room, her dress flowing. Snow falls on a
mountain village, smoke rising from chimneys. A robot walks through a field of sunflowers.
Underwater view of a coral reef with bright fish. Time lapse of clouds over a wide desert. Slow
motion of a glass of water falling. A bird takes off from a branch, leaves trembling. Static,
blurry, low quality, worst quality, overexposed, subtitles, deformed hands, many people.
"""


def write(root: Path) -> None:
    """Write the model to `root`, whole or not at all."""
    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    torch.manual_seed(SEED)
    dit = smooth(WanTransformer(DIT)).state_dict()
    t5 = smooth(Umt5(T5)).state_dict()
    vae = smooth(WanVae(VAE, with_encoder=True)).state_dict()
    tiny = smooth(TinyVae(TINY_VAE)).half().state_dict()
    folders: dict[str, torch.dtype | None] = {
        "distill_models": None, "distill_fp8": torch.float8_e4m3fn, "distill_int8": torch.int8,
    }  # fmt: skip
    for name, codes in folders.items():
        folder = partial / name
        folder.mkdir(parents=True)
        suffix = name.removeprefix("distill_").replace("models", "bf16")
        _write_dit(folder, dit, codes)
        torch.save(
            quantized(t5, codes, _is_t5_linear), folder / f"models_t5_umt5-xxl-enc-{suffix}.pth"
        )
        torch.save(vae, folder / "Wan2.1_VAE.pth")
        torch.save(tiny, folder / "taew2_1.pth")
        (folder / "config.json").write_text(json.dumps(_config(), indent=2) + "\n")
        write_tokenizer(folder / "google" / "umt5-xxl")
    (partial / "loras").mkdir()
    save_file(_lora(), partial / "loras" / "demo_cfg_step_distill_lora_rank4.safetensors")
    partial.rename(root)


def smooth(model: nn.Module) -> nn.Module:
    """Draw weights that keep the size of what passes and blur it in space and time."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            fan_in = module.in_channels
            mix = torch.randn(module.out_channels, fan_in) * fan_in**-0.5
            module.weight.data = torch.einsum("oi,...->oi...", mix, _blur(module.kernel_size))
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.normal_(std=module.weight.shape[-1] ** -0.5)
    for name, parameter in model.named_parameters():
        if "norm" in name or "gamma" in name:
            parameter.data.fill_(0.0 if name.endswith("bias") else 1.0)
        elif name.endswith("bias"):
            parameter.data.normal_(std=0.02)
        elif "modulation" in name:
            parameter.data.normal_(std=0.2)
        parameter.requires_grad_(False)
    return model


def _blur(kernel_size: tuple[int, ...]) -> Tensor:
    """A kernel of ones over time and 1-2-1 over space that sums to 1."""
    kernel = torch.ones(())
    for size in kernel_size:
        row = torch.tensor([1.0, 2.0, 1.0]) if size == 3 else torch.ones(size)
        kernel = kernel[..., None] * row
    return kernel / kernel.sum()


def quantized(
    state: Mapping[str, Tensor], codes: torch.dtype | None, is_linear: Callable[[str], bool]
) -> dict[str, Tensor]:
    """Store a state dict in bf16, its linears as codes and scales where `codes` is given."""
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if codes is not None and is_linear(name):
            weight, scale = per_channel(value, codes)
            stored[name] = weight.contiguous()
            stored[name.replace(".weight", ".weight_scale")] = scale
        else:
            stored[name] = value.to(torch.bfloat16).contiguous()
    return stored


def _write_dit(folder: Path, dit: Mapping[str, Tensor], codes: torch.dtype | None) -> None:
    """One file in bf16; `block_N` files, `non_block` and an index where quantized."""
    stored = quantized(dit, codes, _is_dit_linear)
    if codes is None:
        save_file(stored, folder / "distill_model.safetensors")
        return
    files: dict[str, dict[str, Tensor]] = {}
    for name, value in stored.items():
        block = f"block_{name.split('.')[1]}" if name.startswith("blocks.") else "non_block"
        files.setdefault(f"{block}.safetensors", {})[name] = value
    for file, tensors in files.items():
        save_file(tensors, folder / file)
    weight_map = {name: file for file, tensors in files.items() for name in tensors}
    total = sum(value.nbytes for value in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    path = folder / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps(index, indent=2) + "\n")


def _is_dit_linear(name: str) -> bool:
    parts = name.split(".")
    return (
        parts[0] == "blocks"
        and parts[2] in ("self_attn", "cross_attn", "ffn")
        and parts[-1] == "weight"
        and "norm" not in name
    )


def _is_t5_linear(name: str) -> bool:
    return name.endswith(".weight") and (".attn." in name or ".ffn." in name)


def _config() -> dict[str, object]:
    return {
        "_class_name": "WanModel", "model_type": "t2v", "in_dim": DIT.in_dim,
        "out_dim": DIT.out_dim, "dim": DIT.dim, "ffn_dim": DIT.ffn_dim, "freq_dim": DIT.freq_dim,
        "text_dim": DIT.text_dim, "text_len": DIT.text_len, "num_heads": DIT.num_heads,
        "num_layers": DIT.num_layers, "eps": DIT.eps,
    }  # fmt: skip


def _lora() -> dict[str, Tensor]:
    """A LoRA on queries and feed-forwards of every block, in LightX2V's names."""
    lora = {}
    for layer in range(DIT.num_layers):
        for path, rows in (("self_attn.q", DIT.dim), ("ffn.0", DIT.ffn_dim)):
            name = f"diffusion_model.blocks.{layer}.{path}"
            down, up = torch.randn(LORA_RANK, DIT.dim), torch.randn(rows, LORA_RANK)
            lora[f"{name}.lora_down.weight"] = (down * 0.05).to(torch.bfloat16)
            lora[f"{name}.lora_up.weight"] = (up * 0.05).to(torch.bfloat16)
    return lora


def write_tokenizer(folder: Path) -> None:
    """Train a small Unigram tokenizer of UMT5's kind and write it as `google/umt5-xxl` has it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=T5.vocab_size - 8,
        special_tokens=["<pad>", "</s>", "<s>", "<unk>"],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.split("."), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
