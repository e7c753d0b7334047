"""Prompts: cleaned as Wan cleans them, and cut without losing their end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from engine.spec.errors import CheckpointError
from engine.text import clean, tokenize


@pytest.fixture
def tokenizer(demo_model: Path) -> Path:
    return demo_model / "distill_models" / "google" / "umt5-xxl"


@pytest.mark.parametrize(
    ("typed", "cleaned"),
    [
        ("\N{LEFT DOUBLE QUOTATION MARK}fox\N{RIGHT DOUBLE QUOTATION MARK}", '"fox"'),
        ("itâ\x80\x99s", "it's"),
        ("a &lt;b&gt; &amp; c", "a <b> & c"),
        ("&amp;lt;", "<"),
        ("<b> &amp;lt;", "<b> <"),
        ("  two\n\tlines \u00a0 here  ", "two lines here"),
        ("", ""),
        ("狐狸 在 雪地", "狐狸 在 雪地"),
    ],
)
def test_cleaning(typed: str, cleaned: str) -> None:
    assert clean(typed) == cleaned


def test_ids_end_with_the_end_token(tokenizer: Path) -> None:
    end = tokenize("", tokenizer, 512)
    assert end.shape == (1, 1)
    ids = tokenize("A red fox runs across the snow.", tokenizer, 512)
    assert ids.shape[0] == 1
    assert ids.shape[1] > 3
    assert ids[0, -1] == end[0, 0]
    assert (ids[0, :-1] != end[0, 0]).all()


def test_long_prompts_keep_the_end_token(tokenizer: Path) -> None:
    prompt = "A red fox runs across the snow. " * 100
    whole = tokenize(prompt, tokenizer, 1 << 20)[0]
    assert len(whole) > 512
    cut = tokenize(prompt, tokenizer, 512)[0]
    assert cut.tolist() == [*whole[:511].tolist(), whole[-1].item()]
    exact = tokenize(prompt, tokenizer, len(whole))[0]
    assert exact.tolist() == whole.tolist()


def test_prompts_are_cleaned_before_they_are_tokenized(tokenizer: Path) -> None:
    messy = tokenize(" A  red\nfox &amp; a cat", tokenizer, 512)
    assert messy.tolist() == tokenize("A red fox & a cat", tokenizer, 512).tolist()


def test_padding_and_truncation_stored_in_the_tokenizer_do_not_count(
    tokenizer: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tokenizer, tmp_path / "umt5-xxl"))
    table = json.loads((copy / "tokenizer.json").read_text())
    table["padding"] = {
        "strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "<pad>",
    }  # fmt: skip
    table["truncation"] = {
        "max_length": 64, "strategy": "LongestFirst", "stride": 0, "direction": "Right",
    }  # fmt: skip
    (copy / "tokenizer.json").write_text(json.dumps(table))
    for prompt in ("A red fox.", "A red fox runs across the snow. " * 10):
        assert tokenize(prompt, copy, 512).tolist() == tokenize(prompt, tokenizer, 512).tolist()


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        tokenize("A red fox.", tmp_path / "umt5-xxl", 512)
    assert str(tmp_path / "umt5-xxl" / "tokenizer.json") in caught.value.why


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}', "\x00\x01"])
def test_a_damaged_tokenizer_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match="tokenizer") as caught:
        tokenize("A red fox.", tmp_path, 512)
    assert str(tmp_path) in caught.value.why
    assert "\n" not in caught.value.why


@pytest.mark.golden
def test_ids_of_the_original_tokenizer(golden: Path) -> None:
    root = golden / "Tiny-T2V-StepDistill-CfgDistill-LightX2V" / "distill_models"
    prompt = json.loads((golden / "reference.json").read_text())["prompt"]
    ids = tokenize(prompt, root / "google" / "umt5-xxl", 512)[0]
    expected = load_file(golden / "reference.safetensors")["t5.ids"]
    assert ids.tolist() == expected.tolist()
