"""A model root in words: one row of the list, and the pane that explains every component."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from lightx2v_tui.catalog import TITLES, ModelRoot
from lightx2v_tui.choices import reason_not_runnable
from lightx2v_tui.units import size


def row(root: ModelRoot, width: int) -> tuple[Content, ...]:
    """The cells of one row; the name is cut to `width`."""
    runnable = not reason_not_runnable(root)
    badges: list[tuple[str, str]] = []
    for variant in root.variants:
        style = "$success" if variant.complete else "$warning"
        badges.append((f"{variant.precision.value}{'' if variant.complete else '!'} ", style))
    total = sum(variant.nbytes for variant in root.variants)
    fits = cell_len(root.name) <= width
    shown = root.name if fits else set_cell_size(root.name, width - 1).rstrip() + "…"
    name = Content.styled(shown, "bold" if runnable else "dim")
    return name, Content(root.task), Content(size(total)), Content.assemble(*badges)


def explain(root: ModelRoot) -> Content:
    """Describe a root: every component, and every missing piece in words."""
    parts: list[tuple[str, str]] = [
        (f"{root.path}\n", "$text-muted"),
        (f"{root.family} {root.task}, ", ""),
        ("step-distilled" if root.distilled else "40 or 50 steps", ""),
    ]
    if root.architecture is not None:
        arch = root.architecture
        parts.append((f", {arch.num_layers} blocks of width {arch.dim}", ""))
    disk = root.disk
    parts.append((f"\ndisk: {disk.kind}, {size(disk.free_bytes)} free\n", ""))
    reason = reason_not_runnable(root)
    parts.append((f"cannot run: {reason}\n" if reason else "ready to launch\n",
                  "$warning" if reason else "$success"))  # fmt: skip
    parts += [(f"{problem}\n", "$warning") for problem in root.problems]
    for variant in root.variants:
        verdict = "complete" if variant.complete else "incomplete"
        parts.append((f"\n{variant.folder.name}/  {verdict}\n", "bold"))
        for kind, component in variant.components.items():
            parts.append(
                (f"  {TITLES[kind]:<9}{component.scheme:<6}{size(component.nbytes)}\n", "")
            )
            parts += [(f"    {problem}\n", "$warning") for problem in component.problems]
        parts += [(f"  missing: {name}\n", "$warning") for name in variant.missing]
    parts += [(f"\nLoRA {lora.files[0].name}", "") for lora in root.loras if lora.files]
    return Content.assemble(*parts)
