"""JSON with comments and trailing commas, and the line of every error."""

from __future__ import annotations

import json

import pytest

from lightx2v_tui import jsonc


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ('{"a": 1,}', {"a": 1}),
        ('{"a": [1, 2, ], }', {"a": [1, 2]}),
        ('{"a": 1, // last\n}', {"a": 1}),
        ('{"a": 1, /* last */ }', {"a": 1}),
        ('{"a": 1 // last\n}', {"a": 1}),
        ('// first\n{"a": /* in */ 1}\n// after', {"a": 1}),
        ('{"a": 1}//', {"a": 1}),
        ('/* a\n * b\n */{"a": 1}', {"a": 1}),
        ('{"url": "https://x/*y*/", "b": "a,]"}', {"url": "https://x/*y*/", "b": "a,]"}),
        (r'{"a": "say \"hi\" // no", }', {"a": 'say "hi" // no'}),
        (r'{"path": "C:\\", } // "', {"path": "C:\\"}),
        ("\ufeff{}", {}),
        ('{"a": 1,\r\n}\r\n', {"a": 1}),
        ("[1, [2, 3,],]", [1, [2, 3]]),
        ('"//"', "//"),
        ("5", 5),
    ],
)
def test_comments_and_trailing_commas_are_read(text: str, value: object) -> None:
    assert jsonc.loads(text) == value


def test_plain_json_means_what_it_means_to_python() -> None:
    value = {"a": [1, 2.5, None, True, "é // ü ,]"], "b": {"c": {}}, "": []}
    for text in (json.dumps(value), json.dumps(value, indent=3, ensure_ascii=False)):
        assert jsonc.loads(text) == value


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("{", 1),
        ('{\n"a": 1\n"b": 2\n}', 3),
        ('{\n// one\n/* two\nthree */\n"a": ,\n}', 5),
        ('{"a": 1,,}', 1),
        ("{,}", 1),
        ("[,]", 1),
        ('{\n"a": "open\n}', 2),
        ('{\n"a": 1 /* open\n}', 2),
        ("{'a': 1}", 1),
        ('{"a": 1}\n{"b": 2}', 2),
        ("{\n\n\n}x", 4),
    ],
)
def test_what_is_not_json_says_its_own_line(text: str, line: int) -> None:
    with pytest.raises(jsonc.JsonError) as caught:
        jsonc.loads(text)
    assert caught.value.line == line


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000])
def test_what_python_cannot_read_is_an_error_of_ours(text: str) -> None:
    with pytest.raises(jsonc.JsonError):
        jsonc.loads(text)


def test_blanking_keeps_every_line_and_column() -> None:
    text = '{\n  "a": 1, // é\n  /* x\n  y */ "b": "//", \n}\n'
    blanked = jsonc.blank(text)
    assert len(blanked) == len(text)
    assert [i for i, c in enumerate(blanked) if c == "\n"] == [
        i for i, c in enumerate(text) if c == "\n"
    ]
    assert blanked.index('"b"') == text.index('"b"')


@pytest.mark.parametrize(
    "filler",
    [
        "/" * 80, "// " * 40, "/* a */ " * 40, "/**/" * 60, "\n// a" * 5000, " " * 50_000,
        "/*" * 2000,
    ],
    ids=["slashes", "comments in a comment", "blocks", "tight blocks", "lines", "spaces", "open"],
)  # fmt: skip
@pytest.mark.timeout(3)
def test_a_comma_before_many_comments_is_read_at_once(filler: str) -> None:
    text = '{"a": 1, ' + filler + '\n "b": 2}'
    if filler.startswith("/*/*"):
        with pytest.raises(jsonc.JsonError):
            jsonc.loads(text)
    else:
        assert jsonc.loads(text) == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    ("key", "line"), [("a", 2), ("b", 4), ("c", 5), ('q"', 6), ("d", 0), ("é", 7), ("text", 0)]
)
def test_the_line_of_a_key_skips_comments_and_values(key: str, line: int) -> None:
    text = '{\n"a": "b", // "b": 1\n/* "b": 2 */\n"b"\t: {\n"c": "text"},\n"q\\"": 1,\n"é": 1}'
    assert jsonc.line_of(text, key) == line
