"""Runs the blocks of one page, as a reader would: in a folder with a few prepared sets."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import itertools
import json
import os
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hseval.core.plugin_manager import get_plugins
from tests.helpers.doc_blocks import ROOT, Block, commands, prints
from tests.helpers.sets import saved, texture_set

SETS = {"samples": 1, "real": 2, "train": 3}
SHELL = ("|", ">", ">>", "<", "&&", ";", "&")
CUBES, SIZE = 16, 24


def prepare(folder: Path) -> None:
    """Write ``samples.h5``, ``real.h5``, ``train.h5``, the same as folders of cubes, and a link to ``examples``."""
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, seed in SETS.items():
        cubes = texture_set(CUBES, size=SIZE, seed=seed)
        saved(folder / f"{name}.h5", cubes)
        (folder / name).mkdir()
        (folder / name / "wavelengths.txt").write_text("\n".join(map(str, cubes.wavelengths)))
        for i, cube in enumerate(cubes.cubes):
            np.save(folder / name / f"{name}-{i}.npy", cube)


class Reader:
    """Someone who types what a page says.

    Args:
        folder: where.
        hseval: the command line in this process; returns status, out and err.
        monkeypatch: pytest's, for the working directory.

    Attributes:
        slow: types what takes long as it stands.
        exact: holds what is printed against what is recorded.
    """

    def __init__(self, folder: Path, hseval: Callable[..., Any], monkeypatch: Any) -> None:
        self.folder, self.hseval, self.monkeypatch = folder, hseval, monkeypatch
        self.slow = self.exact = True
        self.prepared = {path.name for path in folder.iterdir()}
        self.root, self.installed = folder.parent, folder.parent / f"{folder.name}-installed"
        self.sources: list[str] = []  # folders of what was installed
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.go(folder)

    def go(self, folder: Path) -> None:
        """Change the working directory, for this process, too."""
        assert folder.is_dir(), folder
        self.folder = folder
        self.monkeypatch.chdir(folder)
        self.monkeypatch.syspath_prepend(str(folder))

    def read(self, block: Block) -> None:
        """Do what a block says; AssertionError or whatever it raises where that fails."""
        if block.title is not None:
            target = self.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.typed(slow=self.slow))
            self._forget()
        if block.language == "python":
            code = compile(block.typed(slow=self.slow), str(block), "exec")
            if block.title is None:
                exec(code, self.names)
        elif block.language == "toml":
            tomllib.loads(block.typed(slow=self.slow))
        elif block.language == "json":
            json.loads(block.typed(slow=self.slow))
        else:
            self._type(block)

    def _type(self, block: Block) -> None:
        wanted = int(block.marks.get("exit status", 0))
        lines = list(commands(block, slow=self.slow))
        assert lines, f"{block}: no command in it"
        for i, (line, recorded) in enumerate(lines):
            status, printed, told = self._run(line)
            assert status == (wanted if i == len(lines) - 1 else 0), f"{block}: {line}\nexit status {status}\n{told}"
            if recorded.strip() and self.exact:
                missing = prints(recorded, printed + told)
                assert missing == [], f"{block}: {line}\nprinted:\n{printed}{told}"

    def _run(self, line: str) -> tuple[int, str, str]:
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.go(self.folder / words[1])
            return 0, "", ""
        if words[0] == "make":  # what it would do; CI does it
            return self._process(["make", "-n", "-C", str(ROOT), *words[1:]])
        if words[:2] == ["pip", "install"]:
            named = [word.partition("[")[0] for word in words[2:] if not word.startswith("-")]
            return self._install(named, editable="-e" in words)
        if words[0] == "hseval" and not set(words) & set(SHELL):
            self._give_way(words)
            words = [each for word in words for each in self._matching(word)]
            done = self.hseval(*words[1:])
            return done.status, done.out, done.err
        if words[0] == "python" and words[1].endswith(".py") and not set(words) & set(SHELL):
            return self._script(words[1:])
        return self._process(["bash", "-c", line])

    def _script(self, words: list[str]) -> tuple[int, str, str]:
        """Run a script in this process, which has the libraries loaded."""
        printed = io.StringIO()
        self.monkeypatch.setattr(sys, "argv", words)
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(self.folder / words[0]), run_name="__main__")
        return 0, printed.getvalue(), ""

    def _give_way(self, words: list[str]) -> None:
        """Take a prepared set out of the way of one that the page makes."""
        for flag, name in itertools.pairwise(words):
            if flag == "--out" and name in self.prepared and (self.folder / name).is_file():
                (self.folder / name).unlink()

    def _matching(self, word: str) -> list[str]:
        """Return the files that a pattern stands for, as a shell would; or the word."""
        if not set("*[") & set(word):
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word)) or [word]

    def _install(self, sources: list[str], *, editable: bool) -> tuple[int, str, str]:
        """Install a distribution that the page made; one of the project's has to be installed already."""
        for source in sources:
            if not (self.folder / source / "pyproject.toml").exists():
                about = tomllib.loads((ROOT / source / "pyproject.toml").read_text())
                assert importlib.metadata.version(about["project"]["name"])
                continue
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
            done = self._process([*pip, "--target", str(self.installed), str(self.folder / source)])
            if done[0]:
                return done
            self.sources = [str(self.installed), *self.sources]
            if editable:  # what is changed afterwards counts
                self.sources = [str(self.folder / source), *self.sources]
            for path in reversed(self.sources):
                self.monkeypatch.syspath_prepend(path)
            self._forget()
        return 0, "", ""

    def leave(self) -> None:
        """Forget what was installed."""
        self.monkeypatch.undo()
        self._forget()

    def _forget(self) -> None:
        """Have plugins loaded anew: those that the page brought or changed."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(self.root)):
                del sys.modules[name]
        get_plugins.cache_clear()

    def _process(self, command: list[str]) -> tuple[int, str, str]:
        here = os.pathsep.join([*self.sources, str(self.folder)])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        given = {**os.environ, "PYTHONPATH": here, "PATH": path, "PIP_NO_INDEX": "1"}
        done = subprocess.run(
            command, cwd=self.folder, env=given, capture_output=True, text=True, timeout=600, check=False
        )
        return done.returncode, done.stdout, done.stderr
