"""JSON with comments and trailing commas, and the line of every error."""

from __future__ import annotations

import json

import pytest

from lightx2v_tui.presets import jsonc


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
    ("path", "line"),
    [
        (("a",), 2), (("b",), 4), (("b", "c"), 5), (('q"',), 6), (("d",), 0), (("é",), 7),
        (("text",), 0), (("c",), 0), (("fps",), 8),
    ],
)  # fmt: skip
def test_the_line_of_a_key_skips_comments_and_values(path: tuple[str, ...], line: int) -> None:
    text = (
        '{\n"a": "b", // "b": 1\n/* "b": 2 */\n"b"\t: {\n"c": "text"},\n"q\\"": 1,\n"é": 1,\n'
        '"f\\u0070s"\n: 3}'
    )
    assert jsonc.layout(text).lines.get(path, 0) == line


def test_a_key_of_another_object_is_not_the_one_that_is_meant() -> None:
    text = '{"a": {\n"fps": 1},\n"list": [{"fps": 2}],\n"fps": 3}'
    assert jsonc.layout(text).lines.get(("fps",), 0) == 4
    assert (
        jsonc.layout(text).lines.get(
            (
                "a",
                "fps",
            ),
            0,
        )
        == 2
    )


def test_keys_that_stand_twice_in_one_object_are_found() -> None:
    text = '{"a": 1,\n"b": {"a": 2},\n"a": 3, "c": [{"x": 1}, {"x": 2}],\n"\\u0061": 4}'
    found = [(twice.key, twice.line, twice.first) for twice in jsonc.layout(text).duplicates]
    assert found == [("a", 3, 1), ("a", 4, 1)]
    assert jsonc.layout(text).lines.get(("a",), 0) == 4


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 4001, "-" + "9" * 4000]
)
def test_numbers_that_json_does_not_have_say_line_and_key(number: str) -> None:
    text = '{"NaN": "NaN", // NaN\n"a": [1,\n' + number + "]}"
    with pytest.raises(jsonc.JsonError) as caught:
        jsonc.loads(text)
    assert (caught.value.line, caught.value.key) == (3, "a")
    assert "expected a number, got " in str(caught.value)
    assert len(str(caught.value)) < 80


def test_what_is_as_deep_as_can_be_is_read_and_one_more_is_refused() -> None:
    deep = "[" * jsonc.MAX_DEPTH + "]" * jsonc.MAX_DEPTH
    assert json.dumps(jsonc.loads(deep), indent=1)
    with pytest.raises(jsonc.JsonError, match="deep") as caught:
        jsonc.loads('{"a":\n' + deep + "}")
    assert caught.value.line == 2


@pytest.mark.parametrize("text", ['{"a": 1,}', "// a\n1", "[NaN]", "/**/{}"])
def test_strict_reads_no_more_than_the_standard(text: str) -> None:
    with pytest.raises(jsonc.JsonError):
        jsonc.strict(text)


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 500_000, "/*" * 500_000, '"' * 1_000_001, "[" * 1_000_000,
     '{"a":' * 200_000, "\\" * 1_000_000],
    ids=["open string", "open comment", "quotes", "brackets", "objects", "backslashes"],
)  # fmt: skip
@pytest.mark.timeout(20)
def test_large_nonsense_is_refused_in_a_moment(text: str) -> None:
    with pytest.raises(jsonc.JsonError):
        jsonc.loads(text)
