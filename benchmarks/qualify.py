"""The recorded tables of ``hseval qualify``: on 200 phantom eyes of 64 px, and on two parts of Indian Pines.

The default metrics are timed first, on an empty cache, as a user would run them on two cores; then all metrics are
qualified, both ways, and the tables in ``docs/qualify.md``, the pictures in ``docs/images/`` and the curves in
``benchmarks/results/qualify_NAME.json`` are written. Nothing was tuned on ``indian-pines-held-back``.

    python benchmarks/qualify.py [phantom] [indian-pines] [indian-pines-held-back] [--folder F] [--again]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import RESULTS, describe

from hseval.files import write_text
from hseval.qualifying.plots import draw
from hseval.qualifying.report import QualifyReport, load_qualify
from hseval.qualifying.tables import markdown
from hseval.report import plain

ROOT = Path(__file__).resolve().parents[1]
PAGE, IMAGES, TIMES = ROOT / "docs" / "qualify.md", ROOT / "docs" / "images", RESULTS / "qualify.json"
HSEVAL = [sys.executable, "-m", "hseval"]
EYES, SIZE, SEED, WORKERS = 200, 64, 1, 2


def phantom(path: Path) -> None:
    """Draw the eyes."""
    drawn = ("-n", str(EYES), "--set", f"size={SIZE}", "--seed", str(SEED), "--out", str(path), "--force")
    subprocess.run([*HSEVAL, "sample", "phantom", *drawn], check=True)


def patches(path: Path, *given: str) -> None:
    """Cut the patches."""
    subprocess.run([sys.executable, str(ROOT / "examples" / "indian_pines_patches.py"), str(path), *given], check=True)


SETS: dict[str, Callable[[Path], None]] = {
    "phantom": phantom,
    "indian-pines": patches,
    "indian-pines-held-back": lambda path: patches(path, "--held-back"),
}


def qualified(real: Path, out: Path, *asked: str) -> tuple[QualifyReport, float]:
    """Run the command as typed; return the report and the seconds that it took."""
    started = time.perf_counter()
    command = [*HSEVAL, "qualify", str(real), "--json", str(out), "--workers", str(WORKERS), *asked]
    ran = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if ran.returncode not in (0, 1):  # 1: some metric of all can't be computed here, and the table says why
        raise SystemExit(f"{' '.join(command)} failed with status {ran.returncode}")
    return load_qualify(out), time.perf_counter() - started


def record_times(name: str, seconds: float) -> None:
    """Write how long the default metrics took, beside what is recorded of the other sets."""
    known = json.loads(TIMES.read_text()) if TIMES.exists() else {}
    known[name] = {"seconds": seconds, "workers": WORKERS, "machine": describe()}
    write_text(TIMES, json.dumps(plain(known), indent=1) + "\n")


def fill_in(name: str, text: str) -> None:
    """Put a table between its markers in the page."""
    page = PAGE.read_text(encoding="utf-8")
    first, last = f"<!-- {name}: written by benchmarks/qualify.py -->", f"<!-- end of {name} -->"
    if first not in page or last not in page:
        raise SystemExit(f"{PAGE}: has no markers {first} and {last}")
    between = re.compile(re.escape(first) + ".*?" + re.escape(last), flags=re.DOTALL)
    write_text(PAGE, between.sub(lambda _: f"{first}\n{text}\n{last}", page))


def pictures(name: str, report: QualifyReport, folder: Path) -> None:
    """Draw the pages, and keep the map and the curves of fid with the docs."""
    folder.mkdir(exist_ok=True)
    draw(report, folder)
    for kept in ("sees", "curves-fid"):
        shutil.copyfile(folder / f"{kept}.png", IMAGES / f"qualify-{name}-{kept}.png")


def main(names: list[str], folder: Path, *, again: bool) -> None:
    """Qualify the sets and write what is published."""
    os.environ["HSEVAL_CACHE"] = str(folder / "cache")
    for name in names:
        real = folder / f"{name}.h5"
        if again or not real.exists():
            SETS[name](real)
        if again or not (folder / "cache" / name).exists():
            subprocess.run([*HSEVAL, "cache", "clear"], check=True, stdout=subprocess.DEVNULL)
            _, seconds = qualified(real, folder / f"{name}-default.json")
            record_times(name, seconds)
            (folder / "cache" / name).touch()
            print(f"{name}: default metrics in {seconds:.0f} s")
        out = RESULTS / f"qualify_{name.replace('-', '_')}.json"
        report, _ = qualified(real, out, "--metrics", "all", "--both-ways")
        pictures(name, report, folder / f"{name}-plots")
        alt = f"What each metric sees on {name}"
        fill_in(name, f"\n![{alt}](images/qualify-{name}-sees.png)\n\n{markdown(report)}")


def _parsed() -> Any:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SETS, []], metavar="NAME")
    parser.add_argument("--folder", type=Path, default=ROOT / "demo" / "qualify")
    parser.add_argument("--again", action="store_true", help="make the sets and time the default metrics anew")
    return parser.parse_args()


if __name__ == "__main__":
    given = _parsed()
    given.folder.mkdir(parents=True, exist_ok=True)
    main(given.names or list(SETS), given.folder, again=given.again)
