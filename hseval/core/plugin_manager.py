"""Loading plugins: one at a time, so that a broken one is listed and everything else works."""

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
from hseval.core.options import build_options
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
    """One named thing that a plugin gives: a class, or a click command."""

    kind: str
    name: str
    distribution: str
    factory: Any
    plugin: str


@dataclasses.dataclass(frozen=True)
class BrokenPlugin:
    """A plugin, or one of its hooks, that can't be used, and why."""

    plugin: str
    distribution: str
    error: str


class PluginManager:
    """The registered plugins and what they give."""

    def __init__(self) -> None:
        self.manager = pluggy.PluginManager(ENTRY_POINT_GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.broken_plugins: list[BrokenPlugin] = []
        self.distributions: dict[str, str] = {}
        self._registrations: dict[str, dict[str, list[Registration]]] = {}

    def register(self, plugin: object, *, name: str, distribution: str) -> None:
        """Register a module or object; one that does not fit the hooks is put on the broken list."""
        try:
            self.manager.register(plugin, name=name)
            self.manager.check_pending()
        except Exception as error:  # noqa: BLE001 - whatever a third party raises is listed, never fatal
            if self.manager.get_plugin(name) is plugin:
                self.manager.unregister(name=name)
            self._record_broken(name, distribution, _format_hook_error(error))
            return
        self.distributions[name] = distribution
        self._registrations.clear()

    def load_entry_points(self) -> None:
        """Import and register every installed plugin of the entry-point group ``hseval``."""
        for entry, distribution in _find_entry_points():
            try:
                module = importlib.import_module(entry.value)
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self._record_broken(entry.name, distribution, format_error(error))
                continue
            self.register(module, name=f"{distribution}:{entry.name}", distribution=distribution)

    def get_registrations(self, kind: str) -> dict[str, list[Registration]]:
        """Return what is on offer of a kind, by name; two offers under one name are a conflict."""
        if kind not in self._registrations:
            self._registrations[kind] = self._collect(kind)
        return self._registrations[kind]

    def get_names(self, kind: str) -> tuple[str, ...]:
        """Return the names that can be used, sorted."""
        return tuple(sorted(name for name, offers in self.get_registrations(kind).items() if len(offers) == 1))

    def find(self, kind: str, name: str) -> Any:
        """Return the class of that name.

        Raises:
            HsevalError: no plugin gives it (with the nearest name), or two distributions do.
        """
        found = self.get_registrations(kind).get(name, [])
        if len(found) > 1:
            givers = " and ".join(sorted(offer.distribution for offer in found))
            raise HsevalError(f"{kind} {name!r} is given by {givers}: uninstall one of them")
        if not found:
            raise HsevalError(f"no {kind} is called {name!r}{format_suggestion(name, self.get_names(kind))}")
        return found[0].factory

    def get_origin(self, kind: str, name: str) -> str:
        """Return the distribution, with its version, that gives a name: what it computed may not outlive it."""
        offers = self.get_registrations(kind).get(name, [])
        return " ".join(f"{offer.distribution} {get_version(offer.distribution)}" for offer in offers)

    @contextlib.contextmanager
    def wrap_errors(self, kind: str, name: str) -> Iterator[None]:
        """Turn whatever a third party's code raises into an HsevalError of one line that says whose code it is.

        What the entry point tells better stays as it is: no memory left, a disk that takes no more.
        """
        try:
            yield
        except (HsevalError, MemoryError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in WRITE_ERRNOS:
                raise
            givers = " and ".join(offer.distribution for offer in self.get_registrations(kind).get(name, []))
            raise HsevalError(f"{kind} {name!r} of {givers or 'nobody'}: {format_error(error)}") from error

    def build(self, kind: str, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """Return an instance of the class of that name, built with its options.

        Raises:
            HsevalError: an unknown name or option, a value of another type, or an ``__init__`` that fails.
        """
        factory = self.find(kind, name)
        with self.wrap_errors(kind, name):
            built = build_options(factory, options or {}, owner=f"{kind} {name!r}")
            try:
                return factory(built) if hasattr(factory, "Options") else factory()
            except ValueError as error:  # a value of the right type that makes no sense
                raise HsevalError(f"{kind} {name!r}: {error}") from error

    def add_commands(self, cli: Any) -> None:
        """Add every plugin's commands to the command line, those whose name is no one else's."""
        for name in self.get_names("command"):
            cli.add_command(self.find("command", name), name)

    def _collect(self, kind: str) -> dict[str, list[Registration]]:
        collected: dict[str, list[Registration]] = {}
        for implementation in getattr(self.manager.hook, HOOK_NAMES[kind]).get_hookimpls():
            distribution = self.distributions[implementation.plugin_name]
            try:
                named = (
                    _collect_commands(implementation.function)
                    if kind == "command"
                    else _collect_classes(implementation.function)
                )
                given = [
                    Registration(kind, name, distribution, found, implementation.plugin_name) for name, found in named
                ]
            except (Exception, SystemExit) as error:  # noqa: BLE001
                self._record_broken_hook(implementation, error)
                continue
            for offer in given:
                collected.setdefault(offer.name, []).append(offer)
        return {name: self._resolve_conflict(offers) for name, offers in collected.items()}

    def _resolve_conflict(self, registrations: list[Registration]) -> list[Registration]:
        """List a name given twice; a built-in keeps its own, so that everything else still works."""
        if len(registrations) == 1:
            return registrations
        registrations = sorted(registrations, key=lambda offer: offer.distribution)
        own = [offer for offer in registrations if offer.distribution == BUILTIN_DISTRIBUTION]
        givers = " and ".join(offer.distribution for offer in registrations)
        for offer in registrations:
            if offer not in own:
                told = f"{offer.kind} {offer.name!r} is given by {givers}: " + (
                    "the built-in one is used" if own else "none can be used until one is uninstalled"
                )
                self._record_broken(offer.plugin, offer.distribution, told)
        return own[:1] or registrations

    def _record_broken_hook(self, implementation: Any, error: BaseException) -> None:
        name = implementation.plugin_name
        told = f"{implementation.function.__name__}: {format_error(error)}"
        self._record_broken(name, self.distributions[name], told)

    def _record_broken(self, plugin: str, distribution: str, error: str) -> None:
        entry = BrokenPlugin(plugin.rsplit(":", maxsplit=1)[-1], distribution, error)
        if entry not in self.broken_plugins:
            self.broken_plugins.append(entry)


@functools.cache
def get_plugins() -> PluginManager:
    """Return the built-in and installed plugins, loaded on the first call."""
    loaded = PluginManager()
    loaded.register(
        importlib.import_module(BUILTIN_MODULE),
        name=f"{BUILTIN_DISTRIBUTION}:built-in",
        distribution=BUILTIN_DISTRIBUTION,
    )
    loaded.load_entry_points()
    return loaded


def get_version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def select_accepted_arguments(function: Callable[..., Any], **arguments: Any) -> dict[str, Any]:
    """Return which of the keyword arguments a third party's function takes."""
    parameters = inspect.signature(function).parameters
    everything = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    return {name: value for name, value in arguments.items() if everything or name in parameters}


def _find_entry_points() -> Iterable[tuple[importlib.metadata.EntryPoint, str]]:
    found = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    named = [(entry, entry.dist.name if entry.dist else "unknown") for entry in found]
    return sorted(named, key=lambda pair: (pair[1], pair[0].name))


def _collect_classes(hook: Callable[[], Any]) -> list[tuple[str, Any]]:
    given = hook()
    factories: list[Any] = [given] if isinstance(given, type) else list(given)
    for factory in factories:
        if not isinstance(factory.name, str):
            raise TypeError(f"{factory.__name__}.name is {factory.name!r}, expected a str")
    return [(factory.name, factory) for factory in factories]


def _collect_commands(hook: Callable[..., Any]) -> list[tuple[str, Any]]:
    import click

    scratch = click.Group()  # where a hook can't replace another's command, and leaves none behind when it fails
    hook(cli=scratch)
    for name, command in scratch.commands.items():
        if not isinstance(command, click.Command):
            raise TypeError(f"command {name!r} is a {type(command).__name__}, expected a click.Command")
    return list(scratch.commands.items())


def _format_hook_error(error: BaseException) -> str:
    text = " ".join(str(error).split())
    misspelt = re.search(r"unknown hook '?\"?(\w+)", text)
    if misspelt:
        word = misspelt[1]
        return f"unknown hook {word!r}{format_suggestion(word, HOOK_NAMES.values())}"
    return text or type(error).__name__
