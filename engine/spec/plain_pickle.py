"""Whether a pickle is a state dict exactly as torch.save writes it, told without running it.

The unpickler in C is ten times faster than the one in Python, and unguarded it is dangerous even
where only harmless names resolve: a memo index takes gigabytes, tuples of tuples take hours to be
hashed. What torch.save writes for a state dict is a regular language: keys are texts, sizes are
whole numbers, nothing is nested. A pickle that matches it has no such surprises.
"""

from __future__ import annotations

import pickle
import re

_PUT = r"(?:q.|r..[\x00-\x0f]\x00)?"  # a memo index stays below 2**20
_GET = r"(?:h.|j....)"
_INT = r"(?:K.|M..|J....)"
_TEXT = rf"(?:X{_PUT}|{_GET})"  # an X here stands for a whole text
_GLOBAL = rf"(?:c[\w.]{{1,80}}\n\w{{1,80}}\n{_PUT}|{_GET})"
_INTS = rf"(?:\({_INT}{{0,16}}t|{_INT}[\x85]|{_INT}{{2}}[\x86]|{_INT}{{3}}[\x87]|\)){_PUT}"
_EMPTY = rf"{_GLOBAL}\)R{_PUT}"  # an OrderedDict
_STORAGE = rf"\({_TEXT}{_GLOBAL}{_TEXT}{_TEXT}{_INT}t{_PUT}Q"
_TENSOR = (
    rf"{_GLOBAL}\({_STORAGE}{_INT}{_INTS}{_INTS}[\x88\x89]{_EMPTY}(?:{_GLOBAL})?t{_PUT}R{_PUT}"
)
_ENTRY = rf"{_TEXT}(?:{_TENSOR}|{_GET})"
_VERSIONS = (
    rf"(?:\((?:{_TEXT}\}}{_PUT}(?:{_TEXT}{_INT}s)?)*u|{_TEXT}\}}{_PUT}(?:{_TEXT}{_INT}s)?s)*"
)
_METADATA = rf"\}}{_PUT}{_TEXT}{_EMPTY}{_VERSIONS}sb"
_STATE = re.compile(
    rf"\x80.(?:\}}{_PUT}|{_EMPTY})(?:\((?:{_ENTRY})*u|{_ENTRY}s)*(?:{_METADATA})?\."
    .encode("latin-1"), re.DOTALL
)  # fmt: skip
#: Opcodes of a fixed size: what stands between two texts.
_BETWEEN = re.compile(
    rb"(?:[}\])(tQRsub\x85-\x89]|\x80.|c[\w.]{1,80}\n\w{1,80}\n|[qhK].|M..|[jrJ].{4}){0,2000}",
    re.DOTALL,
)


def is_state_dict(data: bytes) -> bool:
    """Say whether `data` is what torch.save writes for a state dict, opcode by opcode."""
    skeleton = _without_texts(data)
    return skeleton is not None and _STATE.fullmatch(skeleton) is not None


def _without_texts(data: bytes) -> bytes | None:
    """The pickle with each text replaced by its opcode alone; None where it is not plain."""
    match, text, start, size = _BETWEEN.match, pickle.BINUNICODE[0], 0, len(data)
    parts = []
    while start < size:
        at = match(data, start).end()  # type: ignore[union-attr] # it matches nothing too
        opcode = data[at] if at < size else 0
        parts.append(data[start : at + 1])
        if opcode == text:
            start = at + 5 + int.from_bytes(data[at + 1 : at + 5], "little")
        elif opcode == pickle.STOP[0] and at == size - 1:
            return b"".join(parts)
        else:  # another opcode, or one of too many in a row
            return None
    return None
