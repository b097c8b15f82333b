"""Anonymous reports: none of the names in the sets, and the same scores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import hseval as package
from hseval.core.plugin_manager import get_plugins
from hseval.plugin import Needs, ScoreParts, hookimpl
from tests.helpers.commands import Command, assert_refused
from tests.helpers.sets import make_texture_set, save_set

SECRETS = ("Mueller", "ward-seven", "diabetic", "quentin", "clinic-x", "p0042")
METRICS = "spectral-kl,authenticity,tattler"


class Tattler:
    """A third party's metric whose details and histogram quote the ids and groups of all cubes."""

    name: ClassVar[str] = "tattler"
    summary: ClassVar[str] = "quotes ids"
    better: ClassVar[str] = "lower"
    needs: ClassVar[Needs] = Needs(features=("values",), train=True)

    def compare(self, *, real: Any, generated: Any, train: Any = None, rng: Any) -> ScoreParts:
        named = {str(id): f"{id} of {group}" for table in (real, generated, train)
                 for id, group in zip(table.ids, table.groups, strict=True)}  # fmt: skip
        return ScoreParts(
            0.5, {"named": named, "left_out": {"x": ", ".join(named)}, "caveat": " ".join(named.values())}
        )


class TattlerPlugin:
    """The plugin."""

    @hookimpl
    def hseval_metrics(self) -> list[type]:
        return [Tattler]


@pytest.fixture
def paths(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """Write sets with names everywhere: the reference a folder, and two samples copies of training cubes."""
    folder = tmp_path / "clinic-x" / "quentin"
    folder.mkdir(parents=True)
    sets = {name: make_texture_set(10, size=16, bands=4, seed=seed) for seed, name in enumerate(("s", "r", "t"))}
    sets["s"].cubes[:2] = sets["t"].cubes[:2]
    sets["r"].cubes[9], sets["r"].cubes[8] = np.nan, sets["r"].cubes[7]
    paths = {}
    for name in ("s", "t"):
        base = sets[name]
        paths[name] = save_set(
            folder / f"Mueller_{name}.h5", base, ids=[f"p0042-{name}{i}" for i in range(10)],
            groups=[f"ward-seven-{i // 2}" for i in range(10)], labels={"diagnosis": ["diabetic"] * 10},
            units="a.u.", provenance={"generator": "quentin's", "host": "clinic-x"},
        )  # fmt: skip
    paths["r"] = folder / "Mueller"
    paths["r"].mkdir()
    for i, cube in enumerate(sets["r"]):
        np.savez(paths["r"] / f"p0042-{i}.npz", cube=cube.data, wavelengths=sets["r"].wavelengths, **{
            f"mask_{name}": mask for name, mask in cube.masks.items()})  # fmt: skip
    (paths["r"] / "p0042-gone.npz").symlink_to(folder / "Mueller_gone.npz")
    shutil.copy(paths["s"], paths["s"].with_name("Mueller_w.h5"))
    plugins = get_plugins()
    plugins.register(TattlerPlugin(), name="hseval-tattler:tattler", distribution="hseval-tattler")
    yield paths
    plugins.manager.unregister(name="hseval-tattler:tattler")


def find_secrets(text: str) -> list[str]:
    return [secret for secret in SECRETS if re.search(re.escape(secret), text, re.IGNORECASE)]


def test_no_name_of_the_sets_is_in_any_output(hseval: Command, paths: dict[str, Path], tmp_path: Path) -> None:
    sets = (paths["s"], "--ref", paths["r"], "--train", paths["t"], "--metrics", METRICS)
    plain, hidden, page = (tmp_path / name for name in ("plain.json", "hidden.json", "hidden.html"))
    named = hseval("score", *sets, "--json", plain, "--details")
    assert named.status == 0, named.err
    assert set(SECRETS) - set(find_secrets(plain.read_text())) == {"diabetic"}
    done = hseval("score", *sets, "--anonymous", "--details", "--json", hidden, "--html", page)
    assert done.status == 0, done.err
    shown = hseval("show", hidden, "--details")
    printed = hseval("score", *sets, "--anonymous", "--json", "-")
    for text in (done.out, done.err, hidden.read_text(), page.read_text(), shown.out, printed.out):
        assert find_secrets(text) == []
        assert str(tmp_path) not in text
    assert "data:image" not in page.read_text()
    assert page.read_text().count('class="plot"') > 4
    before, after = (json.loads(path.read_text()) for path in (plain, hidden))
    for score, anonymous in zip(before["scores"], after["scores"], strict=True):
        for field in ("value", "floor", "excess", "interval", "p_value", "verdict", "n"):
            assert score[field] == anonymous[field]
    pairs, other_pairs = (
        report["scores"][1]["details"]["nearest_pairs"] for report in (after, json.loads(printed.out))
    )
    assert [pair["distance"] for pair in pairs] == [pair["distance"] for pair in other_pairs]
    assert pairs[0]["training"] != other_pairs[0]["training"]  # the key is drawn anew


def test_a_cube_has_one_pseudonym_in_all_parts_of_a_report(paths: dict[str, Path]) -> None:
    report = package.score(
        paths["s"], ref=paths["r"], train=paths["t"], metrics=["authenticity", "tattler"], anonymous=True
    )
    pairs, named = report["authenticity"].details["nearest_pairs"], report["tattler"].details["named"]
    assert {pair[side] for pair in pairs for side in ("sample", "training")} <= set(named)
    assert all(re.fullmatch("id-[0-9a-f]{12}", id) for id in named)
    assert all(re.fullmatch("id-[0-9a-f]{12} of (group-[0-9a-f]{12}|\x00.*)", text) for text in named.values())


def test_options_that_are_paths_are_hidden(tmp_path: Path) -> None:
    sets = [make_texture_set(8, size=16, bands=4, seed=seed) for seed in (1, 2)]
    weights = tmp_path / "quentin.safetensors"
    weights.write_bytes(b"")
    nm = tmp_path / "Mueller.txt"
    nm.write_text(" ".join(map(str, sets[0].wavelengths)))
    report = package.score(sets[0], ref=sets[1], metrics=["fid"], wavelengths=str(nm), anonymous=True,
                           options={"encoder": {"weights": str(weights)}})  # fmt: skip
    assert find_secrets(report.to_json()) == []
    assert report.provenance["settings"]["options"] == {"encoder": {"weights": "[path]"}}
    assert report.provenance["settings"]["wavelengths"] == "[path]"


@pytest.mark.parametrize("option", ["--qualify", "--sweep"])
def test_a_page_with_files_that_name_paths_is_refused(hseval: Command, tmp_path: Path, option: str) -> None:
    done = hseval("score", "s.h5", "--ref", "r.h5", "--anonymous", "--html", tmp_path / "p.html", option, "q.json")
    assert_refused(done, "--anonymous", option)


def test_an_empty_group_and_the_words_of_a_note_stay_readable(tmp_path: Path) -> None:
    base = make_texture_set(8, size=16, bands=4)
    groups, labels = ["", "Mueller", *(f"g{i}" for i in range(6))], {"diagnosis": [""] * 8}
    sets = [
        save_set(tmp_path / f"Mueller_{gain}.h5", base, cubes=base.cubes * gain, groups=groups, labels=labels)
        for gain in (1.0, 1.1)
    ]
    report = package.score(str(sets[0]), ref=str(sets[1]), metrics=["spectral-kl"], anonymous=True, cache=False)
    assert "samples: groups: 1 of 8 cubes without a group: each is its own group" in report.notes
    assert not find_secrets(report.to_json())


def test_the_path_of_a_cache_that_cannot_be_used_is_hidden(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "clinic x of Hans Mueller" / "quentin"
    folder.mkdir(parents=True)
    (folder / "cache").write_text("a file")
    monkeypatch.setenv("HSEVAL_CACHE", str(folder / "cache"))
    report = package.score(str(paths["s"]), ref=str(paths["t"]), metrics=["spectral-kl"], anonymous=True)
    assert any("the cache can't be used" in note for note in report.notes)
    assert not find_secrets(report.to_json())
