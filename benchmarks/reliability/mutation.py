"""Mutation testing: do the tests see small faults in the numerics, the cache's keys and the readers' scaling?

A mutant is the code with one small fault: another comparison, sign, operator or number, swapped operands, a condition
or a call left out. A seeded sample of them is tested, in a copy of the working tree, each in a process forked after
the libraries are imported, by the tests that ran the line at least once (fastest first, at most ``MAX_SECONDS`` of
them, those of the module's own test file before others), until one fails. What no test finds is listed, with the
reasons of ``harmless_mutants.toml`` for those that change no result.

    python -m benchmarks.reliability.mutation                                # make mutation: 20 minutes of one core
    python -m benchmarks.reliability.mutation --only hseval/stats/ --count 40 --no-record

The work folder has the tests' coverage and the outcomes so far: a run that was interrupted resumes. Delete it to start
again.
"""

from __future__ import annotations

import argparse
import ast
import collections
import contextlib
import dataclasses
import functools
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "hseval/stats/*.py",
    "hseval/metrics/**/*.py",
    "hseval_ldm/models/codebook.py",
    "hseval_ldm/models/kmeans.py",
    "hseval/data/content_hash.py",
    "hseval/pipeline/inputs.py",
    "hseval/pipeline/extract.py",
    "hseval/sweep/keys.py",
    "hseval/readers/envi.py",
    "hseval/readers/fileset.py",
    "hseval/readers/header.py",
    "hseval/data/axis_order.py",
    "hseval/data/preprocessing.py",
    "hseval/data/wavelengths.py",
)
TESTS = (
    "tests/stats",
    "tests/metrics",
    "tests/data",
    "tests/pipeline",
    "tests/readers",
    "tests/hseval_ldm/models/test_codebook.py",
    "tests/hseval_ldm/models/test_kmeans.py",
    "tests/sweep/test_keys.py",
    "tests/docs/test_constants.py",
)
MAX_SECONDS = 15.0  # CPU time of the tests that one mutant is given
MAX_MEMORY = 16 * 2**30
SEED, COUNT = 21, 300

SWAPPED_OPERATORS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
SWAPPED_NAMES = {
    "min": "max", "minimum": "maximum", "any": "all", "argmin": "argmax", "floor": "ceil", "nanmin": "nanmax",
    "left": "right",
}  # fmt: skip
SWAPPED_NAMES |= {second: first for first, second in SWAPPED_NAMES.items()}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """One replacement in one file: bytes ``start`` to ``end`` become ``after``.

    Attributes:
        path: relative to the repository.
        lines: first and last line of the statement that is executed.
        faulty_line: the line, or lines, with the fault, white space collapsed.
        is_global: whether it is executed when the module is imported, before any test.
    """

    path: str
    lines: tuple[int, int]
    start: int
    end: int
    before: str
    after: str
    faulty_line: str
    is_global: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.lines[0]}: {self.before} -> {self.after} in: {self.faulty_line}"

    @property
    def name(self) -> str:
        """A name that does not depend on the line's number: the file and the faulty line."""
        return f"{self.path}: {self.faulty_line}"

    @property
    def key(self) -> str:
        """A name of its own within one version of the file."""
        return f"{self.start} {self.path}: {self.before} -> {self.after}"


def vary(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the faulty variants of one node."""
    match node:
        case ast.BinOp(left, operator, right):
            if type(operator) in SWAPPED_OPERATORS:
                yield ast.BinOp(left, SWAPPED_OPERATORS[type(operator)](), right)
            if isinstance(operator, ast.Sub | ast.Div):
                yield ast.BinOp(right, operator, left)
        case ast.Compare(left, [operator], comparators):
            yield ast.Compare(left, [SWAPPED_OPERATORS[type(operator)]()], comparators)
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(SWAPPED_OPERATORS[type(operator)](), values)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand) if not isinstance(operand, ast.Constant):
            yield operand
        case ast.Constant(bool() | int() | float() as value):
            yield ast.Constant(_change_number(value))
        case _:
            yield from _vary_structure(node)


def _change_number(value: float) -> float:
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int) else 2 * value or 1.0


def _vary_structure(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.Name(name) if name in SWAPPED_NAMES:
            yield ast.Name(SWAPPED_NAMES[name])
        case ast.Attribute(value, name) if name in SWAPPED_NAMES:
            yield ast.Attribute(value, SWAPPED_NAMES[name])
        case ast.IfExp(test, body, orelse):
            yield ast.IfExp(test, orelse, body)
        case ast.Call(function, arguments, keywords):
            for left_out in keywords:
                yield ast.Call(function, arguments, [keyword for keyword in keywords if keyword is not left_out])
        case ast.Expr(ast.Call()) | ast.AugAssign():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()


def list_mutants(path: str, source: bytes) -> list[Mutant]:
    """Return all mutants of a file that compile, in the order of the file."""
    line_starts = np.cumsum([0, *(len(line) for line in source.splitlines(keepends=True))])
    mutants = []
    for node, statement, is_global in _walk(ast.parse(source), None, is_global=True):
        for variant in vary(node):
            text = ast.unparse(variant)
            after = text if isinstance(variant, ast.stmt | ast.Constant | ast.Name) else f"({text})"
            start = int(line_starts[node.lineno - 1]) + node.col_offset
            end = int(line_starts[node.end_lineno - 1]) + node.end_col_offset
            before = " ".join(source[start:end].decode().split())
            line_start, line_end = source.rfind(b"\n", 0, start) + 1, source.find(b"\n", end)
            faulty_line = source[line_start:start].decode() + after + source[end:line_end].decode()
            lines = (statement.lineno, statement.end_lineno)
            faulty_line = " ".join(faulty_line.split())
            mutants.append(Mutant(path, lines, start, end, before, after, faulty_line, is_global))
    mutants.sort(key=lambda mutant: (mutant.start, mutant.end, mutant.after))
    return [mutant for mutant in mutants if _compiles(apply_mutant(mutant, source))]


def apply_mutant(mutant: Mutant, source: bytes) -> bytes:
    """Return the file with the mutant in it."""
    return source[: mutant.start] + mutant.after.encode() + source[mutant.end :]


def _walk(node: ast.AST, statement: Any, *, is_global: bool) -> Iterator[tuple[Any, Any, bool]]:
    """Yield nodes that are run, the innermost simple statement of each, and whether an import runs it.

    Annotations, decorators, and what is in error messages or other texts are left out.
    """
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list"):
            continue
        inside = is_global and not (field == "body" and isinstance(node, ast.FunctionDef | ast.Lambda))
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr | ast.Raise | ast.Assert):
                simple = child if isinstance(child, ast.stmt) or statement is None else statement
                if isinstance(node, ast.If | ast.For | ast.While | ast.With) and isinstance(child, ast.expr):
                    simple = child  # the header alone
                if hasattr(child, "lineno"):
                    yield child, simple, inside
                yield from _walk(child, simple, is_global=inside)


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def sample_mutants(root: Path, count: int, seed: int, only: str) -> tuple[list[Mutant], collections.Counter[str]]:
    """Return a systematic sample of the mutants, in proportion to each file's number; and the numbers by file."""
    paths = sorted({path for pattern in MODULES for path in root.glob(pattern)})
    names = [path.relative_to(root).as_posix() for path in paths]
    mutants = [
        mutant
        for name, path in zip(names, paths, strict=True)
        if name.startswith(only)
        for mutant in list_mutants(name, path.read_bytes())
    ]
    count = min(count, len(mutants))
    positions = (np.arange(count) + np.random.default_rng(seed).random()) * len(mutants) / count
    numbers = collections.Counter(mutant.path for mutant in mutants)
    return [mutants[int(position)] for position in positions], numbers


class MutationPlugin:
    """Runs mutants instead of the tests that pytest collected, each in a fork of this process.

    Args:
        copy: the copy of the working tree, from which everything is imported.
        mutants: what to try.
        outcomes: of earlier runs, by name; new ones are added.
        on_outcome: called after each mutant.
    """

    def __init__(
        self, copy: Path, mutants: Sequence[Mutant], outcomes: dict[str, str], on_outcome: Callable[[Mutant], None]
    ) -> None:
        self.copy, self.mutants, self.outcomes, self.on_outcome = copy, mutants, outcomes, on_outcome
        self.baseline_path = copy.parent / "baseline.json"
        self.current = ""
        self.seconds: dict[str, float] = {}

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Start a test."""
        self.current = nodeid
        self.start = sum(os.times()[:4])

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a test's time; one that fails without a mutant is not used."""
        if report.when == "call" and report.passed:
            self.seconds[report.nodeid] = sum(os.times()[:4]) - self.start

    def pytest_runtestloop(self, session: Any) -> bool:
        """Try all mutants."""
        items = {item.nodeid: item for item in session.items}
        if not self.baseline_path.exists():
            self._run_forked(lambda: self._measure(list(items.values())), 7200)
        baseline = json.loads(self.baseline_path.read_text())
        for mutant in self.mutants:
            if mutant.key in self.outcomes:
                continue
            names = [name for name in choose_tests(mutant, baseline) if name in items]
            limit = 30 + int(4 * sum(baseline["seconds"][name] for name in names))
            path = self.copy / mutant.path
            source = path.read_bytes()
            try:
                path.write_bytes(apply_mutant(mutant, source))  # for processes that tests start
                chosen = [items[name] for name in names]
                run = functools.partial(run_anew if mutant.is_global else run_here, path, chosen)
                outcome = self._run_forked(run, limit)
            finally:
                path.write_bytes(source)
            self.outcomes[mutant.key] = outcome if names else "not covered"
            self.on_outcome(mutant)
        return True

    def _measure(self, items: Sequence[Any]) -> int:
        """Run all tests; write their CPU seconds, and the tests that ran each line of the modules."""
        import coverage

        measurement = coverage.Coverage(data_file=None, include=[str(self.copy / pattern) for pattern in MODULES])
        measurement.start()
        for item in items:
            measurement.switch_context(item.nodeid)
            run_items([item])
            print(f"{sum(self.seconds.values()):.0f} s", flush=True)
        measurement.stop()
        data = measurement.get_data()
        paths = {Path(path).relative_to(self.copy).as_posix(): path for path in data.measured_files()}
        lines = {name: data.contexts_by_lineno(path) for name, path in paths.items()}
        self.baseline_path.write_text(json.dumps({"seconds": self.seconds, "tests_by_line": lines}))
        return 0

    def _run_forked(self, work: Callable[[], int], cpu_seconds: int) -> str:
        """Run ``work`` in a forked process; return "survived", "found" or "timeout"."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.setsid()
                output = os.open(self.copy.parent / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(output, 1)
                os.dup2(output, 2)
                resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds, cpu_seconds + 5))
                resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
                status = work()
                sys.stdout.flush()
            finally:
                os._exit(status)
        deadline = time.monotonic() + 10 * cpu_seconds  # a mutant may wait without computing
        while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what its tests have left
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            return "found" if os.WEXITSTATUS(status) else "survived"
        return "timeout"


def choose_tests(mutant: Mutant, baseline: dict[str, Any]) -> list[str]:
    """Return the tests that ran the mutant's statement, in the order in which they are tried."""
    by_line = baseline["tests_by_line"].get(mutant.path, {})
    first, last = (0, 10**6) if mutant.is_global else mutant.lines
    seconds = baseline["seconds"]
    names = {name for line, names in by_line.items() if first <= int(line) <= last for name in names} & seconds.keys()
    if mutant.is_global:
        names |= {name for name in seconds if name.startswith("tests/docs/test_constants.py")}
    own = f"test_{Path(mutant.path).stem}.py"
    ordered = sorted(names, key=lambda name: (own not in name, seconds[name], name))
    total = np.cumsum([seconds[name] for name in ordered])
    return ordered[: int(np.searchsorted(total, MAX_SECONDS)) + 1]


def run_items(items: Sequence[Any]) -> int:
    """Run collected tests until one fails; return the number of failures."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            break
    return int(item.session.testsfailed > 0)


def run_here(path: Path, items: Sequence[Any]) -> int:
    """Run tests in this process, whose functions of the changed module are replaced; return the exit status."""
    replace_code(path)
    return run_items(items)


def run_anew(path: Path, items: Sequence[Any]) -> int:
    """Run tests in a new process, which imports the changed module; return the exit status."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", *(item.nodeid for item in items)]
    return subprocess.run(command, check=False).returncode


def replace_code(path: Path) -> None:
    """Give all functions of a module that is imported already the code that its file now has."""
    compiled = list(_walk_code(compile(path.read_bytes(), str(path), "exec")))
    new_code = {(code.co_qualname, code.co_firstlineno): code for code in compiled}
    for function in gc.get_objects():
        if type(function) is types.FunctionType and function.__code__.co_filename == str(path):
            old = function.__code__
            function.__code__ = new_code.get((old.co_qualname, old.co_firstlineno), old)


def _walk_code(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _walk_code(constant)


def copy_tree(destination: Path) -> None:
    """Copy the working tree's files, without those that git ignores."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (destination / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, destination / name)


def format_table(results: Sequence[dict[str, Any]], numbers: collections.Counter[str]) -> str:
    """Return a Markdown table by folder, and the survivors below it."""
    lines = ["| modules | mutants | tried | found | harmless | not found |", "| --- | --- | --- | --- | --- | --- |"]
    for folder in [*sorted({path.rpartition("/")[0] for path in numbers}), ""]:
        total = sum(number for path, number in numbers.items() if path.startswith(f"{folder}/" if folder else ""))
        chosen = [result for result in results if result["path"].startswith(f"{folder}/" if folder else "")]
        found = sum(1 for result in chosen if result["outcome"] in ("found", "timeout"))
        harmless = sum(1 for result in chosen if result["harmless"])
        rest = len(chosen) - found - harmless
        lines.append(f"| {folder or 'all'} | {total} | {len(chosen)} | {found} | {harmless} | {rest} |")
    survivors = [result for result in results if result["outcome"] in ("survived", "not covered")]
    lines += [f"- {result['mutant']} ({result['harmless'] or result['outcome']})" for result in survivors]
    return "\n".join(lines)


def main() -> None:
    """Run the mutants that have no outcome yet, print the table, and record it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", default="", help="beginning of the paths to mutate")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "mutation")
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    copy, outcomes_path = (options.work.resolve() / name for name in ("tree", "outcomes.jsonl"))
    if not copy.exists():
        copy_tree(copy)
    enter_copy(copy)
    mutants, numbers = sample_mutants(copy, options.count, options.seed, options.only)
    outcomes = {}
    if outcomes_path.exists():
        outcomes = dict(map(json.loads, outcomes_path.read_text().splitlines()))
    start = time.monotonic()
    with outcomes_path.open("a") as stored:

        def store_outcome(mutant: Mutant) -> None:
            print(json.dumps([mutant.key, outcomes[mutant.key]]), file=stored, flush=True)
            print(f"{len(outcomes)} {time.monotonic() - start:.0f} s {mutant}: {outcomes[mutant.key]}", flush=True)

        import pytest

        plugin = MutationPlugin(copy, mutants, outcomes, store_outcome)
        temporary = f"--basetemp={options.work.resolve() / 'tmp'}"
        pytest.main(["-s", "-x", "-p", "no:cacheprovider", temporary, *TESTS], plugins=[plugin])
    entries = tomllib.loads((ROOT / "benchmarks/reliability/harmless_mutants.toml").read_text())["harmless"]
    harmless = {entry["fault"]: entry["reason"] for entry in entries}
    results = [
        {
            "mutant": str(mutant),
            "path": mutant.path,
            "outcome": outcomes[mutant.key],
            "harmless": harmless.get(mutant.name),
        }
        for mutant in mutants
        if mutant.key in outcomes
    ]
    print(format_table(results, numbers))
    if not options.no_record:
        record_results(results, numbers, options.seed)


def enter_copy(copy: Path) -> None:
    """Make this process import, and the ones that it starts, what is in the copy."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # compiled files are recognized by size and second: a mutant's may agree
        "PYTHONPATH": os.pathsep.join([str(copy), os.environ.get("PYTHONPATH", "")]),
    }
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(copy))
    os.chdir(copy)
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        del sys.modules[name]
    sys.modules["__main__"] = types.ModuleType("__main__")  # workers import the main module first: there, nothing
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background jobs


def record_results(results: Sequence[dict[str, Any]], numbers: collections.Counter[str], seed: int) -> None:
    """Write counts and survivors to ``benchmarks/results/reliability/mutation.json``."""
    from benchmarks.helpers.machine import describe_machine

    outcomes = collections.Counter("harmless" if result["harmless"] else result["outcome"] for result in results)
    result = {
        "seed": seed,
        "mutants": sum(numbers.values()),
        "tried": len(results),
        "outcomes": outcomes,
        "survivors": [
            {"mutant": result["mutant"], "harmless": result["harmless"]}
            for result in results
            if result["outcome"] in ("survived", "not covered")
        ],
        "machine": describe_machine(),
    }
    path = ROOT / "benchmarks/results/reliability/mutation.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
