"""Write a new plugin from templates to a folder, atomically."""

from __future__ import annotations

import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from hseval.newplugin.naming import PluginNames
from hseval.utils.atomic_files import check_writable, get_umask
from hseval.utils.errors import HsevalError

TEMPLATE_SUFFIX = "-tpl"  # keeps linters, compilers and test runners away from templates
DEPENDENCIES = ("hseval", "numpy>=2.0")


def render_templates(names: PluginNames) -> dict[str, str]:
    """Return the text of every file of a new plugin, by its path inside the distribution."""
    templates = files("hseval.newplugin") / "templates"
    values = {
        "kind": names.kind,
        "name": names.name,
        "distribution": names.distribution,
        "module": names.module,
        "cls": names.class_name,
        "dependencies": ", ".join(f'"{dependency}"' for dependency in DEPENDENCIES),
    }
    renamed_files = {"module.py": f"{names.module}.py", "test.py": f"tests/test_{names.module}.py"}
    texts: dict[str, str] = {}
    for folder in ("common", names.kind):
        for template in sorted((templates / folder).iterdir(), key=lambda file: file.name):
            name = template.name.removesuffix(TEMPLATE_SUFFIX)
            if name == template.name:  # a cache of the interpreter's
                continue
            texts[renamed_files.get(name, name)] = Template(template.read_text(encoding="utf-8")).substitute(values)
    return texts


def write_plugin(names: PluginNames, out: Path) -> list[Path]:
    """Write a new plugin's distribution to the folder ``out``, which must not exist; return its files.

    Raises:
        HsevalError: the folder exists, or can't be created.
    """
    if out.exists() or out.is_symlink():
        raise HsevalError(f"{out}: exists already; name another folder with --out")
    check_writable(out)
    texts = render_templates(names)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        for path, text in texts.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(text, encoding="utf-8")
        temporary.chmod(0o777 & ~get_umask())
        temporary.rename(out)
    except OSError as error:
        raise HsevalError(f"{out}: could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [out / path for path in sorted(texts)]
