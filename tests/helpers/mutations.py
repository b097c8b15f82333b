"""Damaged JSON and TOML files: what a disk, an editor, another program or an attacker may leave of a valid one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Rng = np.random.Generator

DEPTH = 100_000  # of nested lists and tables
ATTACK = "\x1b[31m\x07\x00\x9b2J [bold]x[/bold] [/] </script><script>alert(1)</script> {{ 7 * 7 }} \n | & % \u202e"
VALUES = (
    None, True, False, 0, -1, 2, 10**30, -(10**30), 1e308, -1e308, 1e-320, 0.5, "", "NaN", "nan", "1", "lower", ATTACK,
    "x" * 3000, [], {}, [[]], [None], [1.0, 2.0], [2.0, 1.0], ["a", ATTACK], {"": None}, {"a": {"a": 1}},
    {ATTACK: ATTACK},
)  # fmt: skip
RAW_JSON = (
    "NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', '{"a": 1, "a": 2}', "[" * 40 + "]" * 40,
    '{"a":' * 300 + "1" + "}" * 300, "[" * 900 + "]" * 900, "[" * DEPTH + "]" * DEPTH,
    '{"a":' * DEPTH + "1" + "}" * DEPTH,
)  # fmt: skip
TOML_VALUES = (
    "true", "0", "-1", "9" * 30, "1e308", "nan", "inf", "-inf", "1979-05-27", "07:32:00", '""', '"NaN"', "[]", "{}",
    "[[]]", "[1, 'a']", "{a = 1}", '["fid", "fid"]', '"a\\u001b[31m\\u0000[bold]</script>"', '"nowhere"', "'''\nx\n'''",
    "x" * 50, '"' + "x" * 3000 + '"', "[" * 200 + "]" * 200, "{a=" * 200 + "1" + "}" * 200,
    "[" * DEPTH + "]" * DEPTH, "{a=" * DEPTH + "1" + "}" * DEPTH,
)  # fmt: skip


def mutate_json(content: Any, rng: Rng) -> bytes:
    """Return the text of JSON content with one to three mutations."""
    raw: list[str] = []
    content = {"root": copy.deepcopy(content)}
    for _ in range(rng.integers(1, 4)):
        _mutate_tree(content, rng, raw)
    text = json.dumps(content.get("root"))
    for index, literal in enumerate(raw):
        text = text.replace(f'"@raw{index}@"', literal)
    data = text.encode("utf-8", "surrogatepass")
    return mutate_bytes(data, rng) if rng.random() < 0.15 else data


def mutate_toml(text: str, rng: Rng) -> bytes:
    """Return a TOML file with one to three mutations."""
    lines = text.splitlines()
    for _ in range(rng.integers(1, 4)):
        _mutate_line(lines, rng)
    data = "\n".join(lines).encode()
    return mutate_bytes(data, rng) if rng.random() < 0.15 else data


def _pick(values: Sequence[Any], rng: Rng) -> Any:
    return values[int(rng.integers(len(values)))]


def _mutate_tree(root: dict[str, Any], rng: Rng, raw: list[str]) -> None:
    parent, key = _choose_place(root, rng)
    kinds = (_delete, _replace, _replace, _replace_raw, _resize, _repeat, _rename, _scale, _scramble, _scramble)
    mutate = _pick(kinds, rng)
    mutate(parent, key, rng, raw)


def _choose_place(root: dict[str, Any], rng: Rng) -> tuple[Any, Any]:
    """Return a container and a key in it, by a random descent, so that long lists are not chosen all the time."""
    parent: Any = root
    key: Any = next(iter(root), "root")
    while rng.random() < 0.85:
        child = parent[key] if not isinstance(parent, dict) or key in parent else None
        if not isinstance(child, dict | list) or not child:
            break
        parent = child
        key = _pick(list(child), rng) if isinstance(child, dict) else int(rng.integers(len(child)))
    return parent, key


def _delete(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    if isinstance(parent, list) or key in parent:
        del parent[key]


def _replace(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    parent[key] = copy.deepcopy(_pick(VALUES, rng))


def _replace_raw(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    parent[key] = f"@raw{len(raw)}@"
    raw.append(_pick(RAW_JSON, rng))


def _resize(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    value = parent.get(key) if isinstance(parent, dict) else parent[key]
    if isinstance(value, list):
        half = value[: len(value) // 2]
        parent[key] = _pick((half, value * 2, [*value, None], value[:1], [*half, ATTACK], [[], *value]), rng)
    else:
        parent[key] = [value, value]


def _repeat(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    if isinstance(parent, list):
        parent.insert(key, copy.deepcopy(parent[key]))
    elif key in parent:
        parent[f"{key} "] = copy.deepcopy(parent[key])


def _rename(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    if isinstance(parent, dict) and key in parent:
        parent[_pick((f"{key}x", "", ATTACK, "value", "__class__"), rng)] = parent.pop(key)


def _scale(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    value = parent.get(key) if isinstance(parent, dict) else parent[key]
    if isinstance(value, int | float):
        parent[key] = _pick((-value, 0, value * 10**9, float(value) * 1e-300, value + 1, str(value)), rng)
    else:
        parent[key] = copy.deepcopy(_pick(VALUES, rng))


def _scramble(parent: Any, key: Any, rng: Rng, raw: list[str]) -> None:
    """Replace leaves of one kind by others of their type, which a schema may accept."""
    value = parent.get(key) if isinstance(parent, dict) else parent[key]
    replaced = _pick((float, int, str, list), rng)
    parent[key] = _scramble_leaves(value, replaced, _pick((0, -1, 1, 1e300, 1e-300, 10**15), rng), rng.random())


def _scramble_leaves(value: Any, replaced: type, number: float, part: float) -> Any:
    if isinstance(value, dict):
        return {name: _scramble_leaves(item, replaced, number, part) for name, item in value.items()}
    if isinstance(value, list):
        items = [_scramble_leaves(item, replaced, number, part) for item in value]
        return items[: int(part * len(items))] if replaced is list else items
    if type(value) is not replaced:
        return value
    return ATTACK if replaced is str else replaced(number)


def _mutate_line(lines: list[str], rng: Rng) -> None:
    if not lines:
        return
    index = int(rng.integers(len(lines)))
    line, value = lines[index], _pick(TOML_VALUES, rng)
    if rng.random() < 0.3:  # what may be another valid value
        lines[index] = re.sub(r"\d", str(rng.integers(1, 10)), line, count=1)
        return
    if "=" in line and rng.random() < 0.6:
        lines[index] = f"{line.partition('=')[0]}= {value}"
        return
    edits: tuple[Callable[[], None], ...] = (
        lambda: lines.pop(index) and None,
        lambda: lines.insert(index, line),
        lambda: lines.insert(index, f"{_pick(('x', 'seed', 'a.b.c', chr(39) + ATTACK[5:6] + chr(39)), rng)} = {value}"),
        lambda: lines.insert(index, _pick(("[x]", "[[x]]", "[a.b]", "[" + "a." * 2000 + "a]", "[fid]", "]"), rng)),
        lambda: lines.__setitem__(index, re.sub(r"\w", "z", line, count=1)),
    )
    _pick(edits, rng)()


def mutate_bytes(data: bytes, rng: Rng) -> bytes:
    """Return data as a disk, an editor or an unfinished copy may leave it: cut off, with flipped bits, repeated ..."""
    place = int(rng.integers(len(data) + 1))
    end = min(len(data), place + int(rng.integers(1, 40)))
    flipped = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        if flipped:
            flipped[int(rng.integers(len(flipped)))] ^= 1 << int(rng.integers(8))
    return _pick(
        (data[:place], bytes(flipped), data[:place] + data[end:], data[:end] + data[place:], b"", b"\xff\xfe" + data,
         b"\xef\xbb\xbf" + data, data + b"\x00", data + data),
        rng,
    )  # fmt: skip
