"""Reports without patients (``--anonymous``): pseudonyms for cubes and groups, and neither paths nor images.

The sets get their pseudonyms before anything is computed, so that no metric, note or figure knows the names. A
pseudonym is a keyed hash; the key is drawn anew for each report and stored nowhere, so that hashing known ids finds
none. ``docs/anonymous.md`` lists what a report still discloses.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.cubes import BoolArray, Cube, CubeSet, DerivedSet
from hseval.core.report import Report
from hseval.pipeline.inputs import InputSets
from hseval.utils.distributed import Ranks
from hseval.utils.feature_cache import get_cache_path
from hseval.utils.text import map_text

PLACEHOLDER = "[path]"
PATH_PATTERN = re.compile(r"""(?<![\w.])(?:~|[A-Za-z]:|\.{1,2})?(?:[/\\][^\s/\\'",;:()]+){2,}[/\\]?""")
REMOVED_PROVENANCE = ("command", "platform")  # the command line has paths, the platform may name a machine
FORMAT_NAMES = {"masks", "cubes", "cubes.csv", "wavelengths", "wavelengths.txt"}  # of the files beside cubes
KEY_BYTES, DIGEST_BYTES = 32, 6


class AnonymousSet(DerivedSet):
    """A set whose cubes and groups have pseudonyms; its labels, its path and the provenance in its file are hidden.

    Args:
        base: the set.
        role: its name in the report.
        key: of the hashes; equal ids and groups of sets with the same key get the same pseudonym.
    """

    def __init__(self, base: CubeSet, role: str, key: bytes) -> None:
        self.base, info = base, base.info
        pseudonyms = {id: _hash_name("id", id, key) for id in info.ids}
        groups = None if info.groups is None else tuple(_hash_name("group", group, key) for group in info.groups)
        names: dict[str, str] = {}
        if info.notes:
            names = dict.fromkeys({*_iter_file_names(base)} - FORMAT_NAMES - {*info.structures}, PLACEHOLDER)
            names |= dict.fromkeys((str(value) for values in info.labels.values() for value in values), "[label]")
            names |= {} if groups is None else dict(zip(info.groups or (), groups, strict=True))
            names |= pseudonyms
        self.info = dataclasses.replace(
            info,
            location=role,
            ids=tuple(pseudonyms.values()),
            groups=groups,
            labels={},
            notes=tuple(_replace_names(note, names) for note in info.notes),
            provenance={},
        )

    def read(self, index: int) -> Cube:
        """Read one cube."""
        group = None if self.groups is None else self.groups[index]
        return dataclasses.replace(self.base.read(index), id=self.ids[index], group=group)

    def read_masks(self, index: int) -> Mapping[str, BoolArray]:
        """Return the masks of one cube."""
        return self.base.read_masks(index)


def anonymize_sets(sets: InputSets, ranks: Ranks) -> InputSets:
    """Return the sets with pseudonyms, the same on all ranks."""
    key = np.frombuffer(secrets.token_bytes(KEY_BYTES), dtype=np.uint8)
    shared = ranks.gather_arrays({"key": key})[0]["key"].tobytes()
    return InputSets(**{role: AnonymousSet(cubes, role, shared) for role, cubes in sets.items()})


def anonymize_report(report: Report, sets: InputSets) -> Report:
    """Return a report on :func:`anonymize_sets` without command line, paths, images and the time of day.

    Args:
        report: the report.
        sets: the sets as they were opened, whose paths nothing in the report may contain.
    """
    provenance = {name: value for name, value in report.provenance.items() if name not in REMOVED_PROVENANCE}
    provenance["time"] = str(provenance["time"])[: len("2026-01-31")]
    hidden = {name for _, cubes in sets.items() for name in _iter_file_names(cubes) if _is_distinctive(name)}
    hidden |= {text for text in _iter_texts(provenance["settings"]) if _is_path(text)}
    cache = get_cache_path()  # a note may name it
    hidden |= {str(path) for path in (cache, cache.parent, cache.absolute(), cache.absolute().parent)}
    figure_data = report.exhibits
    if figure_data is not None:
        figure_data = dataclasses.replace(figure_data, style=None, real=(), generated=(), nearest_pairs=())
    anonymous = dataclasses.replace(report, provenance=provenance, exhibits=figure_data)
    everything = "\n".join(_iter_texts(dataclasses.asdict(dataclasses.replace(anonymous, exhibits=None)))).casefold()
    names = dict.fromkeys((name for name in hidden if name.casefold() in everything), PLACEHOLDER)
    return map_text(anonymous, lambda text: _replace_names(text, names))


def _hash_name(kind: str, name: str, key: bytes) -> str:
    digest = hashlib.blake2b(f"{kind} {name}".encode(errors="surrogatepass"), key=key, digest_size=DIGEST_BYTES)
    return f"{kind}-{digest.hexdigest()}"


def _iter_file_names(cubes: CubeSet) -> Iterator[str]:
    """Yield the path of a set as it was given, those of all files in it, and their names with and without suffix."""
    location = Path(cubes.info.location)
    sources = {source for index in range(len(cubes)) for source in cubes.sources(index)}
    for path in (
        location,
        *sources,
        *(location.rglob("*") if location.is_dir() else ()),
    ):  # also files that are no cube
        yield from (str(path), str(path.absolute()), path.name, path.stem)


def _is_distinctive(name: str) -> bool:
    """Return whether a name of a file is no word that sentences on scores have, such as ``real``."""
    return len(name) > 3 and not name.isalpha()


def _is_path(text: str) -> bool:
    """Return whether the value of an option is a path: it has a separator, or a suffix of letters."""
    suffix = Path(text).suffix[1:]
    return "/" in text or "\\" in text or (suffix.isalnum() and not suffix.isdigit())


def _iter_texts(value: Any) -> Iterator[str]:
    """Yield every text in mappings, lists and tuples."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (Mapping, list, tuple)):
        for item in (*value, *value.values()) if isinstance(value, Mapping) else value:
            yield from _iter_texts(item)


def _replace_names(text: str, names: Mapping[str, str]) -> str:
    """Return text with names replaced where they stand alone, in any case, the longest first; then all other paths."""
    folded = text.casefold()
    for name in sorted((name for name in names if name and name.casefold() in folded), key=len, reverse=True):
        if not name.isdigit() or len(name) > 4:  # a count
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", names[name], text, flags=re.IGNORECASE)
    return PATH_PATTERN.sub(PLACEHOLDER, text)
