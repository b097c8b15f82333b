"""Loads plugins one by one, so that a broken one is listed and all others work."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pluggy

from hseval.core import hookspecs
from hseval.core.options import NoOptions, build_options, get_options_class
from hseval.core.plugin_api import check_plugin_api
from hseval.utils.atomic_files import WRITE_ERRNOS
from hseval.utils.errors import HsevalError, format_error, format_suggestion

ENTRY_POINT_GROUP = "hseval"
BUILTIN_DISTRIBUTION = "hseval"  # the distribution that the built-in plugins come from
BUILTIN_MODULE = "hseval.builtin"
HOOK_NAMES = {
    "reader": "hseval_readers",
    "extractor": "hseval_extractors",
    "metric": "hseval_metrics",
    "segmenter": "hseval_segmenters",
    "generator": "hseval_generators",
    "renderer": "hseval_renderers",
    "command": "hseval_commands",
}


@dataclasses.dataclass(frozen=True)
class Registration:
    """One class or click command that a plugin provides under a name."""

    kind: str
    name: str
    distribution: str
    factory: Any
    plugin: str


@dataclasses.dataclass(frozen=True)
class BrokenPlugin:
    """A plugin, or one of its hooks, that can't be used, and the reason."""

    plugin: str
    distribution: str
    error: str


class PluginManager:
    """The registered plugins and what they provide."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.broken_plugins: list[BrokenPlugin] = []
        self.distributions: dict[str, str] = {}
        self._registrations: dict[str, dict[str, list[Registration]]] = {}

    def register(self, plugin: object, *, name: str, distribution: str) -> None:
        """Register a module or object; one that does not match the hooks is added to the broken plugins."""
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except Exception as error:  # noqa: BLE001 - third-party errors are listed, never fatal
            if self.manager.get_plugin(name) is plugin:
                self.manager.unregister(name=name)
            self.record_broken(name, distribution, _format_hook_error(error))
            return
        self.distributions[name] = distribution
        self._registrations.clear()

    def load_entry_points(self) -> None:
        """Import and register every installed plugin of the entry-point group ``hseval``."""
        for entry, distribution in _find_entry_points():
            try:
                module = importlib.import_module(entry.value)
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self.record_broken(entry.name, distribution, format_error(error))
                continue
            self.register(module, name=f"{distribution}:{entry.name}", distribution=distribution)

    def get_registrations(self, kind: str) -> dict[str, list[Registration]]:
        """Return the registrations of a kind by name; several under one name are a conflict."""
        if kind not in self._registrations:
            self._registrations[kind] = self._collect(kind)
        return self._registrations[kind]

    def get_names(self, kind: str) -> tuple[str, ...]:
        """Return the usable names of a kind, sorted."""
        by_name = self.get_registrations(kind)
        return tuple(sorted(name for name, registrations in by_name.items() if len(registrations) == 1))

    def find(self, kind: str, name: str) -> Any:
        """Return the class of that name.

        Raises:
            HsevalError: no plugin provides it (the message names the nearest one), or two distributions do.
        """
        registrations = self.get_registrations(kind).get(name, [])
        if len(registrations) > 1:
            providers = " and ".join(sorted(entry.distribution for entry in registrations))
            raise HsevalError(f"{kind} {name!r} is provided by {providers}: uninstall one of them")
        if not registrations:
            raise HsevalError(f"no {kind} is called {name!r}{format_suggestion(name, self.get_names(kind))}")
        return registrations[0].factory

    def get_origin(self, kind: str, name: str) -> str:
        """Return the distribution and version that provide a name, for the keys of cached results."""
        registrations = self.get_registrations(kind).get(name, [])
        return " ".join(f"{entry.distribution} {get_version(entry.distribution)}" for entry in registrations)

    @contextlib.contextmanager
    def wrap_errors(self, kind: str, name: str) -> Iterator[None]:
        """Turn any exception of third-party code into an HsevalError of one line that names the distribution.

        Errors that the command line reports better are raised unchanged: out of memory, failed writes.
        """
        try:
            yield
        except (HsevalError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in WRITE_ERRNOS:
                raise
            providers = " and ".join(entry.distribution for entry in self.get_registrations(kind).get(name, []))
            origin = providers or "an unregistered plugin"
            raise HsevalError(f"{kind} {name!r} of {origin}: {format_error(error)}") from error

    def build(self, kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return an instance of the class of that name, with its options.

        Raises:
            HsevalError: an unknown name or option, a value of another type, or an ``__init__`` that fails.
        """
        factory = self.find(kind, name)
        with self.wrap_errors(kind, name):
            resolved = build_options(factory, options or {}, owner=f"{kind} {name!r}")
            arguments = () if get_options_class(factory) is NoOptions else (resolved,)
            try:
                return factory(*arguments)
            except ValueError as error:  # a value of the right type that makes no sense
                raise HsevalError(f"{kind} {name!r}: {error}") from error

    def add_commands(self, cli: Any) -> None:
        """Add every plugin's commands with a unique name to the command line."""
        for name in self.get_names("command"):
            cli.add_command(self.find("command", name), name)

    def _collect(self, kind: str) -> dict[str, list[Registration]]:
        collected: dict[str, list[Registration]] = {}
        for implementation in getattr(self.manager.hook, HOOK_NAMES[kind]).get_hookimpls():
            plugin, hook = implementation.plugin_name, implementation.function
            distribution = self.distributions[plugin]
            try:
                named_factories = _collect_commands(hook) if kind == "command" else _collect_classes(hook)
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self.record_broken(plugin, distribution, f"{hook.__name__}: {format_error(error)}")
                continue
            for name, factory in named_factories:
                entry = Registration(kind, name, distribution, factory, plugin)
                collected.setdefault(name, []).append(entry)
        return {name: self._resolve_conflict(registrations) for name, registrations in collected.items()}

    def _resolve_conflict(self, registrations: list[Registration]) -> list[Registration]:
        """Record a name that several plugins provide as broken; a built-in keeps its name."""
        if len(registrations) == 1:
            return registrations
        registrations = sorted(registrations, key=lambda entry: entry.distribution)
        built_in = [entry for entry in registrations if entry.distribution == BUILTIN_DISTRIBUTION]
        providers = " and ".join(entry.distribution for entry in registrations)
        outcome = "the built-in one is used" if built_in else "none can be used until one is uninstalled"
        for entry in registrations:
            if entry not in built_in:
                message = f"{entry.kind} {entry.name!r} is provided by {providers}: {outcome}"
                self.record_broken(entry.plugin, entry.distribution, message)
        return built_in[:1] or registrations

    def record_broken(self, plugin: str, distribution: str, error: str) -> None:
        """Add a plugin to the broken ones, unless it is there with this error."""
        entry = BrokenPlugin(plugin.rsplit(":", maxsplit=1)[-1], distribution, error)
        if entry not in self.broken_plugins:
            self.broken_plugins.append(entry)


@functools.cache
def get_plugins() -> PluginManager:
    """Return the built-in and installed plugins, loaded on the first call."""
    plugins = PluginManager()
    built_in = importlib.import_module(BUILTIN_MODULE)
    plugins.register(built_in, name=f"{BUILTIN_DISTRIBUTION}:built-in", distribution=BUILTIN_DISTRIBUTION)
    plugins.load_entry_points()
    return plugins


def get_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def select_accepted_arguments(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Return those keyword arguments that a third-party function accepts."""
    parameters = inspect.signature(function).parameters
    accepts_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in arguments.items() if accepts_all or name in parameters}


def _find_entry_points() -> Iterable[tuple[importlib.metadata.EntryPoint, str]]:
    entries = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    pairs = [(entry, entry.dist.name if entry.dist else "unknown") for entry in entries]
    return sorted(pairs, key=lambda pair: (pair[1], pair[0].name))


def _collect_classes(hook: Callable[[], Any]) -> list[tuple[str, Any]]:
    returned = hook()
    factories: list[Any] = [returned] if isinstance(returned, type) else list(returned)
    for factory in factories:
        if not isinstance(factory.name, str):
            raise TypeError(f"{factory.__name__}.name is {factory.name!r}, expected a str")
        check_plugin_api(factory)
    return [(factory.name, factory) for factory in factories]


def _collect_commands(hook: Callable[..., Any]) -> list[tuple[str, Any]]:
    import click

    scratch = click.Group()  # so that a hook can't replace a command, and adds none when it fails
    hook(cli=scratch)
    for name, command in scratch.commands.items():
        if not isinstance(command, click.Command):
            raise TypeError(f"command {name!r} is a {type(command).__name__}, expected a click.Command")
    return list(scratch.commands.items())


def _format_hook_error(error: BaseException) -> str:
    text = " ".join(str(error).split())
    misspelled = re.search(r"unknown hook '?\"?(\w+)", text)
    if misspelled:
        word = misspelled[1]
        return f"unknown hook {word!r}{format_suggestion(word, HOOK_NAMES.values())}"
    return text or type(error).__name__
