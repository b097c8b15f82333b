"""Qualify: disjoint halves, idle and gross degradations, copies, and the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import hseval
from hseval.core.cubes import ArraySet, Cube, CubeSet
from hseval.core.plugin_manager import get_plugins
from hseval.data.content_hash import compute_content_hash
from tests.helpers.commands import Command
from tests.helpers.sets import make_texture_set, save_set

FEW, SEVERITIES = (2.0, 8.0), (1.0, 2.0, 4.0, 8.0)
QUICK = {"metrics": ["fid", "spectral-kl"], "options": {"scattering": {"scales": 2}}}


class Idle:
    """Does nothing at any severity."""

    name: ClassVar[str] = "idle"
    summary: ClassVar[str] = "nothing"
    kind: ClassVar[str] = "spectral"
    unit: ClassVar[str] = "%"
    severities: ClassVar[tuple[float, ...]] = FEW
    is_set_wide: ClassVar[bool] = False

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        return None

    def degrade(self, cube: Cube, severity: float, *, wavelengths: NDArray[Any], rng: np.random.Generator) -> Cube:
        return cube


class Tint(Idle):
    """Tilts the spectrum."""

    name: ClassVar[str] = "tint"
    severities: ClassVar[tuple[float, ...]] = SEVERITIES

    def degrade(self, cube: Cube, severity: float, *, wavelengths: NDArray[Any], rng: np.random.Generator) -> Cube:
        tilt = np.linspace(1 - 0.05 * severity, 1 + 0.05 * severity, len(wavelengths), dtype=np.float32)
        return dataclasses.replace(cube, data=cube.data * tilt[:, None, None])


class Speckle(Idle):
    """Adds noise, so that the random streams of cubes can be compared."""

    name: ClassVar[str] = "speckle"

    def degrade(self, cube: Cube, severity: float, *, wavelengths: NDArray[Any], rng: np.random.Generator) -> Cube:
        noise = rng.standard_normal(cube.data.shape, dtype=np.float32)
        return dataclasses.replace(cube, data=cube.data + np.float32(0.01 * severity) * noise)


class SharedSpeckle(Speckle):
    """The same noise in every cube."""

    name: ClassVar[str] = "shared-speckle"
    is_set_wide: ClassVar[bool] = True


class Same(Idle):
    """Replaces cubes by the first one."""

    name: ClassVar[str] = "same"
    kind: ClassVar[str] = "set"
    severities: ClassVar[tuple[float, ...]] = (10.0, 90.0)

    def pick(self, features: NDArray[np.float64], severity: float, rng: np.random.Generator) -> NDArray[np.int64]:
        indices = np.arange(len(features))
        indices[: round(severity / 100 * len(features))] = 0
        return indices


class Bright(Idle):
    """Near-copies that are a little brighter."""

    name: ClassVar[str] = "bright"
    kind: ClassVar[str] = "copies"
    severities: ClassVar[tuple[float, ...]] = (5.0, 10.0, 80.0)

    def copy(self, cube: Cube, *, wavelengths: NDArray[Any], rng: np.random.Generator) -> Cube:
        return dataclasses.replace(cube, data=cube.data * np.float32(1.02))


class Unfit(Idle):
    """Is not applicable to any set."""

    name: ClassVar[str] = "unfit"

    def explain_unmet_need(self, data: CubeSet) -> str | None:
        return "no such structure"


@pytest.fixture
def few_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use few jackknife blocks, for tests without intervals."""
    monkeypatch.setattr("hseval.qualification.job.BLOCKS", 2)
    monkeypatch.setattr("hseval.qualification.job.BLOCK_PAIRS", 0)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> hseval.QualifyReport:
    """Return one report for several tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HSEVAL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return hseval.qualify(
            make_texture_set(48, size=16, seed=5),
            degradations=[Idle(), Tint(), Same(), Bright(), Unfit()],
            metrics=["fid", "spectral-kl", "authenticity"],
            options=QUICK["options"],
            cache=False,
        )


def test_every_metric_is_insensitive_to_an_idle_degradation(report: hseval.QualifyReport) -> None:
    for column in report.columns:
        curve = report.get_curve(column.label, "idle")
        assert [point.value for point in curve.points] == [curve.floor] * len(FEW)
        assert curve.detection_threshold is None
        assert curve.spearman is None


def test_a_gross_fault_is_detected_and_its_value_rises_with_the_severity(report: hseval.QualifyReport) -> None:
    for metric in ("fid", "spectral-kl"):
        curve = report.get_curve(metric, "tint")
        assert curve.detection_threshold is not None
        assert curve.spearman == pytest.approx(1.0)
        last = curve.points[-1]
        assert last.is_significant
        assert last.interval[0] < last.value < last.interval[1]
        assert last.excess == pytest.approx(last.value - curve.floor)


def test_only_copies_move_authenticity_and_copies_hardly_move_spectra(report: hseval.QualifyReport) -> None:
    curve = report.get_curve("authenticity", "bright")
    assert curve.detection_threshold is not None
    assert curve.points[-1].value == pytest.approx(0.8, abs=0.1)
    assert report.get_curve("authenticity", "tint").detection_threshold is None
    assert report.get_curve("spectral-kl", "bright").detection_threshold is None


def test_a_collapse_to_one_cube_is_detected(report: hseval.QualifyReport) -> None:
    assert report.get_curve("fid", "same").detection_threshold is not None


def test_the_report_has_sizes_rows_and_reasons(report: hseval.QualifyReport) -> None:
    assert report.get_curve("fid", "tint").sizes == (24, 24)
    assert report.get_curve("fid", "bright").sizes == (24, 12)
    assert report.get_curve("authenticity", "tint").sizes == (24, 12)
    assert report.not_applied == {"unfit": "no such structure"}
    assert [row.name for row in report.rows] == ["idle", "tint", "same", "bright"]
    severities = next(row.severities for row in report.rows if row.name == "bright")
    assert severities == pytest.approx([100 / 12, 200 / 12, 1000 / 12])  # whole numbers of 12 samples


def test_the_report_survives_a_file(report: hseval.QualifyReport, tmp_path: Path) -> None:
    report.save(tmp_path / "q.json")
    assert hseval.load_qualify(tmp_path / "q.json").to_json() == report.to_json()
    record = json.loads((tmp_path / "q.json").read_text())
    assert (record["format"], record["version"]) == ("hseval-qualify", 2)


def compute_groups_and_hashes(base: CubeSet) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return groups and content hashes of a set, ordered by content."""
    hashes = [compute_content_hash(cube.data) for cube in base]
    order = np.argsort(hashes)
    groups = base.groups or [f"\0{i}" for i in range(len(base))]
    return np.array([groups[i] for i in order]), np.array([hashes[i] for i in order])


def test_halves_share_neither_group_nor_cube() -> None:
    from hseval.qualification.halves import draw_halves

    base = make_texture_set(40, size=12, field=False)
    cubes = np.concatenate([base.cubes, base.cubes[:6]])  # six cubes are repeated in other groups
    groups = [f"patient-{i // 2}" for i in range(40)] + [f"again-{i}" for i in range(6)]
    group_names, hashes = compute_groups_and_hashes(ArraySet(cubes, groups=groups))
    for seed in range(20):
        clean, other = draw_halves(group_names, hashes, seed=seed, location="set")
        assert not set(group_names[clean]) & set(group_names[other])
        assert not set(hashes[clean]) & set(hashes[other])
        assert len(clean) + len(other) == 46
        assert abs(len(clean) - len(other)) <= 6


def test_halves_are_drawn_from_whole_groups_whatever_the_order_of_the_file() -> None:
    from hseval.qualification.halves import draw_halves

    groups = np.repeat([f"g{i}" for i in range(30)], 3)
    hashes = np.array([f"{i:064d}" for i in range(90)])
    clean, other = draw_halves(groups, hashes, seed=1, max_cubes=40, location="set")
    sampled = np.concatenate([clean, other])
    assert 40 <= len(sampled) <= 42
    assert all((groups[sampled] == name).sum() == 3 for name in set(groups[sampled]))
    renamed = draw_halves(np.char.add("x", groups[::-1])[::-1], hashes, seed=1, max_cubes=40, location="set")
    assert [half.tolist() for half in renamed] == [clean.tolist(), other.tolist()]


def test_set_wide_faults_are_shared_and_others_depend_only_on_the_cube() -> None:
    from hseval.qualification.degraded_sets import DegradedSet

    base = make_texture_set(4, size=12, field=False)
    reordered = base.subset([3, 2, 1, 0])

    def compute_noise(kind: type, data: CubeSet, index: int, severity: float = 4.0) -> NDArray[Any]:
        degraded = DegradedSet(data, kind(), severity, 0)
        return np.asarray(degraded[index].data - data[index].data, dtype=np.float64) / severity

    own, shared = [[compute_noise(kind, base, i) for i in range(2)] for kind in (Speckle, SharedSpeckle)]
    assert np.abs(own[0] - own[1]).max() > 0.01
    np.testing.assert_allclose(shared[0], shared[1], atol=1e-6)
    np.testing.assert_array_equal(compute_noise(Speckle, reordered, 3), own[0])
    np.testing.assert_allclose(compute_noise(Speckle, base, 0, severity=8.0), own[0], atol=1e-6)  # same pattern


@pytest.mark.usefixtures("few_blocks")
def test_the_order_of_the_file_changes_nothing() -> None:
    base = make_texture_set(32, size=16, seed=2)
    order = np.random.default_rng(0).permutation(32)
    reordered = ArraySet(
        base.cubes[order],
        wavelengths=base.wavelengths,
        masks={name: mask[order] for name, mask in base.masks.items()},
        ids=[f"other-{i}" for i in range(32)],
    )
    arguments: dict[str, Any] = {"degradations": [Speckle(), Bright()], "cache": False, **QUICK}
    assert hseval.qualify(base, **arguments).curves == hseval.qualify(reordered, **arguments).curves


def test_both_ways_is_the_mean_of_the_two_ways() -> None:
    base = make_texture_set(32, size=16, seed=2)
    arguments = {"degradations": [Speckle(), Bright()], "metrics": ["spectral-kl"], "cache": False}
    one, both = hseval.qualify(base, **arguments), hseval.qualify(base, both_ways=True, **arguments)
    assert both.get_curve("spectral-kl", "speckle").detection_threshold is not None
    for way, mean in zip(one.curves, both.curves, strict=True):
        assert way.floor != mean.floor
        excess = mean.points[-1].excess
        assert excess == pytest.approx(mean.points[-1].value - mean.floor)
        assert excess == pytest.approx(way.points[-1].excess, rel=0.6, abs=0.05)
    assert any("in turn" in note for note in both.notes)


def test_a_worker_changes_nothing(tmp_path: Path) -> None:
    path = save_set(tmp_path / "real.h5", make_texture_set(32, size=16, seed=2))
    arguments = {"degradations": [Speckle(), Bright()], "metrics": ["spectral-kl"], "cache": False}
    assert hseval.qualify(path, workers=1, **arguments).curves == hseval.qualify(path, workers=0, **arguments).curves


@pytest.mark.usefixtures("few_blocks")
def test_an_interrupted_run_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    from hseval.qualification.job import QualifyJob

    base = make_texture_set(32, size=16, seed=3)
    expected = hseval.qualify(base, degradations=[Speckle(), Bright()], cache=False, metrics=["spectral-kl"])
    computed: list[int] = []
    run_chunk = QualifyJob.run_chunk

    def interrupt_after_four(job: QualifyJob, chunk: list[int]) -> Any:
        if len(computed) == 4:
            raise KeyboardInterrupt
        computed.extend(chunk)
        return run_chunk(job, chunk)

    monkeypatch.setattr(QualifyJob, "run_chunk", interrupt_after_four)
    with pytest.raises(KeyboardInterrupt):
        hseval.qualify(base, degradations=[Speckle(), Bright()], metrics=["spectral-kl"])
    monkeypatch.setattr(QualifyJob, "run_chunk", lambda job, chunk: computed.extend(chunk) or run_chunk(job, chunk))
    resumed = hseval.qualify(base, degradations=[Speckle(), Bright()], metrics=["spectral-kl"])
    assert sorted(computed) == list(range(6))  # four before, two after, none twice
    assert resumed.curves == expected.curves
    monkeypatch.setattr(QualifyJob, "run_chunk", lambda job, chunk: pytest.fail("everything is in the cache"))
    assert hseval.qualify(base, degradations=[Speckle(), Bright()], metrics=["spectral-kl"]).curves == expected.curves


@pytest.mark.usefixtures("few_blocks")
def test_another_seed_option_or_severity_is_computed_anew() -> None:
    base = make_texture_set(32, size=16, seed=3)

    def compute_value(degradation: Idle, **changes: Any) -> float | None:
        arguments = {**QUICK, "metrics": ["spectral-kl"], **changes}
        report = hseval.qualify(base, degradations=[degradation], **arguments)
        return report.get_curve("spectral-kl", "speckle").points[-1].value

    class Stronger(Speckle):
        severities: ClassVar[tuple[float, ...]] = (3.0, 9.0)

    value = compute_value(Speckle())
    assert compute_value(Speckle()) == value
    assert compute_value(Stronger()) != value
    assert compute_value(Speckle(), seed=1) != value
    assert compute_value(Speckle(), options={"spectral-kl": {"bins": 16}}) != value


@pytest.mark.usefixtures("few_blocks")
def test_every_extractor_gets_its_own_column() -> None:
    report = hseval.qualify(
        make_texture_set(20, size=16),
        degradations=[Tint()],
        metrics=["fid", "spectral-kl"],
        extractors=["scattering", "spectra"],
        options=QUICK["options"],
        cache=False,
    )
    assert [column.label for column in report.columns] == ["fid (scattering)", "fid (spectra)", "spectral-kl"]
    missing = report.get_curve("fid (spectra)", "tint")
    assert missing.floor is None
    assert "several columns" in str(missing.missing_reason)
    assert report.get_curve("fid (scattering)", "tint").floor is not None


def test_a_degradation_that_removes_all_valid_pixels_is_an_error() -> None:
    class Blank(Idle):
        name: ClassVar[str] = "blank"

        def degrade(self, cube: Cube, severity: float, *, wavelengths: NDArray[Any], rng: np.random.Generator) -> Cube:
            return dataclasses.replace(cube, data=np.full_like(cube.data, np.nan)) if rng.random() < 0.5 else cube

    with pytest.raises(hseval.HsevalError, match="no valid pixel"):
        hseval.qualify(make_texture_set(16, size=16), degradations=[Blank()], metrics=["spectral-kl"], cache=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["fidd"]}, "did you mean 'fid'"),
        ({"degradations": ["blurr"]}, "did you mean 'blur'"),
        ({"extractors": ["scatering"]}, "did you mean 'scattering'"),
        ({"metrics": ["ms-ssim"], "extractors": ["scattering"]}, "none of the requested metrics"),
        ({"cubes": 4}, "at least 16"),
        ({"degradations": [Unfit()]}, "no such structure"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(hseval.HsevalError, match=message) as error:
        hseval.qualify(make_texture_set(20, size=16), cache=False, **arguments)
    assert "\n" not in str(error.value)


def test_too_few_groups_are_refused() -> None:
    base = make_texture_set(20, size=16)
    grouped = ArraySet(base.cubes, wavelengths=base.wavelengths, groups=[f"g{i % 3}" for i in range(20)])
    with pytest.raises(hseval.HsevalError, match="3 independent groups"):
        hseval.qualify(grouped, cache=False)


@pytest.mark.usefixtures("few_blocks")
def test_every_built_in_degradation_runs_on_small_cubes() -> None:
    report = hseval.qualify(make_texture_set(20, size=12), metrics=["spectral-kl"], cache=False)
    assert len(report.rows) >= 20
    assert all(len(curve.points) >= 5 and curve.floor is not None for curve in report.curves)
    assert all(len(row.severities) >= 8 for row in report.rows if row.kind != "copies")


@pytest.mark.usefixtures("few_blocks")
def test_the_command_line_prints_saves_plots_and_loads_a_report(hseval: Command, tmp_path: Path) -> None:
    real = save_set(tmp_path / "real.h5", make_texture_set(40, size=24, seed=5))
    options = ("--degradations", "shift", "--metrics", "spectral-kl", "--workers", 0)
    result = hseval("qualify", real, *options, "--json", tmp_path / "q.json", "--plots", tmp_path / "plots")
    assert (result.status, result.err) == (0, "")
    assert "20 clean cubes against 20 degraded cubes" in result.out
    lines = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    assert "nm" in lines["shift"]
    assert "insensitive" in lines["shift"] or "(" in lines["shift"]
    plots = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert plots == ["curves-spectral-kl.png", "sees.png"]
    assert all((tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG") for name in plots)
    loaded = hseval("qualify", "--load", tmp_path / "q.json")
    assert (loaded.status, loaded.out) == (0, result.out)
    assert json.loads(hseval("qualify", "--load", tmp_path / "q.json", "--json", "-").out) == json.loads(
        (tmp_path / "q.json").read_text()
    )


@pytest.mark.parametrize(
    ("values", "floor", "scale", "max_position"),
    [
        ((-0.1, 4.0, 1e6), -0.05, "symlog", 0.3),  # an unbiased distance: its floor is about 0
        ((0.1, 4.0, 1e6), 0.05, "log", 0.3),
        ((0.1, 0.11, 0.12), 0.1, "linear", 0.6),
    ],
)
def test_a_page_of_curves_shows_both_the_floor_and_gross_faults(
    report: hseval.QualifyReport, values: tuple[float, ...], floor: float, scale: str, max_position: float
) -> None:
    from hseval.qualification.plots import plot_curves
    from hseval.qualification.report import SeverityPoint

    points = tuple(SeverityPoint(2.0**i, value, (value - 0.01, value + 0.01)) for i, value in enumerate(values))
    changes: dict[str, Any] = {"floor": floor, "floor_interval": (floor - 0.05, floor + 0.05), "points": points}
    curves = tuple(dataclasses.replace(curve, **changes) for curve in report.curves)
    page = plot_curves(dataclasses.replace(report, curves=curves), report.columns[0])
    axes = page.axes[0]
    assert axes.get_yscale() == scale
    low, high = axes.get_ylim()
    assert low <= min(*values, floor)
    assert high >= max(values)
    assert axes.transLimits.transform(axes.transScale.transform((1.0, floor)))[1] < max_position


def tint_cubes(base: ArraySet, severity: float) -> ArraySet:
    """Return a set with every cube tinted."""
    rng = np.random.default_rng(0)
    cubes = [Tint().degrade(cube, severity, wavelengths=base.wavelengths, rng=rng).data for cube in base]
    return ArraySet(np.stack(cubes), wavelengths=base.wavelengths, masks=base.masks)


def test_the_equivalent_severity_of_a_score_is_the_severity_of_its_fault() -> None:
    from hseval.qualification.equivalent_severity import compute_equivalents

    real, others = make_texture_set(48, size=16, seed=5), make_texture_set(48, size=16, seed=6)
    options: dict[str, Any] = {"metrics": ["spectral-kl"], "cache": False}
    qualified = hseval.qualify(real, degradations=[Tint(), Idle()], **options)
    (score,) = compute_equivalents(hseval.score(tint_cubes(others, 6.0), ref=real, **options), qualified)
    (equivalent,) = score.equivalents  # none of the idle degradation
    assert (equivalent.degradation, equivalent.relation) == ("tint", "about")
    assert 5 < equivalent.severity < 7.2
    assert score.warnings == ()
    (score,) = compute_equivalents(hseval.score(others, ref=real, **options), qualified)
    assert score.equivalents == ()
    assert "like real" in str(score.missing_reason)
    (score,) = compute_equivalents(
        hseval.score(tint_cubes(others, 5.0), ref=make_texture_set(16, size=16, seed=7), **options), qualified
    )
    assert any("another reference" in warning for warning in score.warnings)
    assert any("8 cubes per side" in warning for warning in score.warnings)


def test_the_scores_of_a_report_are_printed_as_severities(hseval: Command, tmp_path: Path) -> None:
    real = save_set(tmp_path / "real.h5", make_texture_set(40, size=24, seed=5))
    samples = save_set(tmp_path / "samples.h5", tint_cubes(make_texture_set(40, size=24, seed=6), 3.0))
    report = tmp_path / "s.json"
    assert hseval("score", samples, "--ref", real, "--metrics", "spectral-kl", "--json", report).status == 0
    result = hseval("qualify", real, "--report", report, "--degradations", "offset", "--json", tmp_path / "q.json")
    assert result.status == 0
    line = next(line for line in result.out.splitlines() if line.startswith("spectral-kl ") and "floor" in line)
    assert "of offset" in line
    assert "another reference" not in result.out
    loaded = hseval("qualify", "--load", tmp_path / "q.json", "--report", report)
    assert line in loaded.out.splitlines()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either the real cubes, or --load"),
        (("real.h5", "--load", "q.json"), "either the real cubes, or --load"),
        (("--load", "q.json"), "can't be read as a report of hseval qualify"),
        (("--load", "report.json"), "not a report of hseval qualify"),
        (("--load", "old.json"), "version 99"),
        (("--load", "report.json", "--metrics", "fid"), "only shows them"),
        (("real.h5", "--json", "real.h5"), "is an input"),
        (("real.h5", "--degradations", "blurr"), "did you mean 'blur'"),
        (("nowhere.h5",), "no such file"),
        (("real.h5", "-n", "4"), "at least 16"),
        (("real.h5", "--report", "report.json"), "is a report of version 1"),
    ],
)
def test_invalid_input_is_refused_in_one_line(
    hseval: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_set(tmp_path / "real.h5", make_texture_set(20, size=12))
    (tmp_path / "report.json").write_text('{"format": "hseval-report", "version": 1}')
    (tmp_path / "old.json").write_text('{"format": "hseval-qualify", "version": 99}')
    result = hseval("qualify", *arguments)
    assert result.status == 2
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1


@pytest.mark.usefixtures("few_blocks")
def test_the_exit_status_is_1_if_a_requested_metric_has_no_value(hseval: Command, tmp_path: Path) -> None:
    tiny = save_set(tmp_path / "tiny.h5", make_texture_set(20, size=8))
    result = hseval("qualify", tiny, "--metrics", "ms-ssim,spectral-kl", "--degradations", "offset", "--workers", 0)
    assert result.status == 1
    assert "ms-ssim: not computed" in result.out


def test_the_extractor_that_qualify_depends_on_exists() -> None:
    from hseval.qualification.plan import MODE_EXTRACTOR

    assert MODE_EXTRACTOR in get_plugins().get_names("extractor")
