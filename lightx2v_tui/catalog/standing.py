"""How a model stands, in few words: what all its variants lack is told once, not by each."""

from __future__ import annotations

from dataclasses import dataclass

from lightx2v_tui.catalog.completeness import NOTHING, verdicts
from lightx2v_tui.catalog.model import DITS, TITLES, Kind, ModelRoot, Variant, Verdict

COMPLETE, INCOMPLETE = "complete", "incomplete"
SCATTERED, LATER = "complete with parts from elsewhere", "complete, not runnable yet"
_TITLES = {kind.value: title for kind, title in TITLES.items()}


@dataclass(frozen=True)
class VariantStanding:
    """One variant: what it is called, how it stands, and what is wrong with it alone."""

    variant: Variant
    title: str
    word: str  # COMPLETE, SCATTERED, LATER or INCOMPLETE
    verdicts: tuple[Verdict, ...]

    @property
    def line(self) -> str:
        """What it is called, how it stands, and the parts that are there."""
        parts = ", ".join(TITLES[kind] for kind in self.variant.components)
        return f"{self.title} {self.word} (has {parts})" if parts else f"{self.title} {self.word}"


@dataclass(frozen=True)
class Standing:
    """A model: what is wrong with every variant, and with each."""

    shared: tuple[Verdict, ...]
    variants: tuple[VariantStanding, ...]


def standing_of(root: ModelRoot) -> Standing:
    """Say how a root and its variants stand."""
    told = [tuple(v for v in verdicts(root, variant) if v.state != "ok")
            for variant in root.variants]  # fmt: skip
    alike = len(told) > 1
    shared = tuple(v for v in told[0] if all(v in each for each in told)) if alike else ()
    variants = tuple(
        VariantStanding(variant, _title(root, variant), _word(variant, each),
                        tuple(v for v in each if v not in shared))
        for variant, each in zip(root.variants, told, strict=True)
    )  # fmt: skip
    return Standing(shared, variants)


def in_words(verdict: Verdict) -> tuple[str, str]:
    """A verdict as a line, and the fix where there is something to do."""
    title = _TITLES.get(verdict.part, verdict.part)
    fix = "" if verdict.fix.startswith(NOTHING) else verdict.fix
    return f"{title} {verdict.state}: {verdict.reason}", fix


def first_fix(root: ModelRoot) -> str:
    """The first thing to do about a model; empty where there is nothing to do."""
    standing = standing_of(root)
    told = [*standing.shared, *(v for each in standing.variants for v in each.verdicts)]
    return next((fix for verdict in told if (fix := in_words(verdict)[1])), "")


def _word(variant: Variant, told: tuple[Verdict, ...]) -> str:
    if variant.complete:
        later = any(v.state == "not runnable" and v.part in DITS for v in told)
        return LATER if later else COMPLETE
    states = {verdict.state for verdict in told}
    if not states <= {"elsewhere", "not runnable"}:
        return INCOMPLETE
    return LATER if "not runnable" in states else SCATTERED


def _title(root: ModelRoot, variant: Variant) -> str:
    """The precision; where several variants have the same, with the DiT's file or style."""
    if sum(other.label == variant.label for other in root.variants) < 2:
        return variant.label
    dit = variant.components.get(Kind.DIT) or variant.components.get(Kind.DIT_LOW)
    if dit is None or not dit.files:
        return variant.label
    name = dit.files[0].name if dit.layout == "file" else f"{dit.files[0].parent.name}/"
    return f"{variant.label} {name}"
