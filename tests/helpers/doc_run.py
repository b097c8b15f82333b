"""Run the blocks of one page as a reader would: in a folder with a few prepared sets."""

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
from tests.helpers.doc_blocks import ROOT, Block, find_missing_lines, read_commands
from tests.helpers.sets import make_texture_set, save_set

SETS = {"samples": 1, "real": 2, "train": 3}
SHELL = ("|", ">", ">>", "<", "&&", ";", "&")
CUBES, SIZE = 16, 24


def prepare_folder(folder: Path) -> None:
    """Write ``samples.h5``, ``real.h5``, ``train.h5``, the same as folders of cubes, and a link to ``examples``."""
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, seed in SETS.items():
        cubes = make_texture_set(CUBES, size=SIZE, seed=seed)
        save_set(folder / f"{name}.h5", cubes)
        (folder / name).mkdir()
        (folder / name / "wavelengths.txt").write_text("\n".join(map(str, cubes.wavelengths)))
        for i, cube in enumerate(cubes.cubes):
            np.save(folder / name / f"{name}-{i}.npy", cube)


class Reader:
    """Runs the blocks of a page.

    Args:
        folder: the working directory.
        hseval: the command line in this process; returns status, out and err.
        monkeypatch: pytest's, for the working directory.

    Attributes:
        slow: runs slow blocks, unchanged.
        exact: compares the output with the recorded one.
    """

    def __init__(self, folder: Path, hseval: Callable[..., Any], monkeypatch: Any) -> None:
        self.folder, self.hseval, self.monkeypatch = folder, hseval, monkeypatch
        self.slow = self.exact = True
        self.prepared = {path.name for path in folder.iterdir()}
        self.root, self.installed = folder.parent, folder.parent / f"{folder.name}-installed"
        self.sources: list[str] = []  # folders of installed distributions
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.change_folder(folder)

    def change_folder(self, folder: Path) -> None:
        """Change the working directory, also of this process."""
        assert folder.is_dir(), folder
        self.folder = folder
        self.monkeypatch.chdir(folder)
        self.monkeypatch.syspath_prepend(str(folder))

    def run_block(self, block: Block) -> None:
        """Run a block; AssertionError, or the error that it raises, if that fails."""
        if block.title is not None:
            target = self.folder / block.title
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.get_text(slow=self.slow))
            self._unload_plugins()
        if block.language == "python":
            code = compile(block.get_text(slow=self.slow), str(block), "exec")
            if block.title is None:
                exec(code, self.names)
        elif block.language == "toml":
            tomllib.loads(block.get_text(slow=self.slow))
        elif block.language == "json":
            json.loads(block.get_text(slow=self.slow))
        else:
            self._run_commands(block)

    def _run_commands(self, block: Block) -> None:
        expected = int(block.marks.get("exit status", 0))
        lines = list(read_commands(block, slow=self.slow))
        assert lines, f"{block}: has no command"
        for i, (line, recorded) in enumerate(lines):
            status, out, err = self._run(line)
            assert status == (expected if i == len(lines) - 1 else 0), f"{block}: {line}\nexit status {status}\n{err}"
            if recorded.strip() and self.exact:
                missing = find_missing_lines(recorded, out + err)
                assert missing == [], f"{block}: {line}\nprinted:\n{out}{err}"

    def _run(self, line: str) -> tuple[int, str, str]:
        words = shlex.split(line, comments=True)
        if words[0] == "cd":
            self.change_folder(self.folder / words[1])
            return 0, "", ""
        if words[0] == "make":  # a dry run; CI runs the targets
            return self._run_process(["make", "-n", "-C", str(ROOT), *words[1:]])
        if words[:2] == ["pip", "install"]:
            names = [word.partition("[")[0] for word in words[2:] if not word.startswith("-")]
            return self._install(names, editable="-e" in words)
        if words[0] == "hseval" and not set(words) & set(SHELL):
            self._remove_prepared(words)
            words = [name for word in words for name in self._expand(word)]
            outcome = self.hseval(*words[1:])
            return outcome.status, outcome.out, outcome.err
        if words[0] == "python" and words[1].endswith(".py") and not set(words) & set(SHELL):
            return self._run_script(words[1:])
        return self._run_process(["bash", "-c", line])

    def _run_script(self, words: list[str]) -> tuple[int, str, str]:
        """Run a script in this process, where the libraries are already imported."""
        printed = io.StringIO()
        self.monkeypatch.setattr(sys, "argv", words)
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(self.folder / words[0]), run_name="__main__")
        return 0, printed.getvalue(), ""

    def _remove_prepared(self, words: list[str]) -> None:
        """Remove a prepared set that the page will write itself."""
        for flag, name in itertools.pairwise(words):
            if flag == "--out" and name in self.prepared and (self.folder / name).is_file():
                (self.folder / name).unlink()

    def _expand(self, word: str) -> list[str]:
        """Return the files that match a pattern, as a shell does; or the word."""
        if not set("*[") & set(word):
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word)) or [word]

    def _install(self, sources: list[str], *, editable: bool) -> tuple[int, str, str]:
        """Install a distribution that the page wrote; those of the project have to be installed already."""
        for source in sources:
            if not (self.folder / source / "pyproject.toml").exists():
                metadata = tomllib.loads((ROOT / source / "pyproject.toml").read_text())
                assert importlib.metadata.version(metadata["project"]["name"])
                continue
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
            outcome = self._run_process([*pip, "--target", str(self.installed), str(self.folder / source)])
            if outcome[0]:
                return outcome
            self.sources = [str(self.installed), *self.sources]
            if editable:  # later changes take effect
                self.sources = [str(self.folder / source), *self.sources]
            for path in reversed(self.sources):
                self.monkeypatch.syspath_prepend(path)
            self._unload_plugins()
        return 0, "", ""

    def clean_up(self) -> None:
        """Undo changes of the environment and unload what was installed."""
        self.monkeypatch.undo()
        self._unload_plugins()

    def _unload_plugins(self) -> None:
        """Unload modules of the page, so that plugins are loaded anew."""
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(str(self.root)):
                del sys.modules[name]
        get_plugins.cache_clear()

    def _run_process(self, command: list[str]) -> tuple[int, str, str]:
        python_path = os.pathsep.join([*self.sources, str(self.folder)])
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PYTHONPATH": python_path, "PATH": path, "PIP_NO_INDEX": "1"}
        process = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=600, check=False
        )
        return process.returncode, process.stdout, process.stderr
