"""Says in one line what an object is: its class, and its settings that are not the default.

A class takes it by `__repr__ = repr_of`. Nothing here raises, whatever an object holds.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Entries of a list or an array, and letters of a text, that are shown in full.
_ENTRIES, _LETTERS = 8, 80
_MISSING: Any = object()


class Words(str):
    """A text that is shown as it is, without quotation marks, even if it is the default."""


def repr_of(thing: Any) -> str:
    """Returns `Name(setting=value, ...)` with the settings that differ from their default.

    A setting is an argument of the constructor, in its order. Its value is the entry in what
    `thing._shown()` returns, else the attribute of that name, else the entry in `get_config()`.
    `Words` that `_shown` has beside the arguments come last. Arrays of a named tuple are shown
    by their shapes alone.
    """
    shown = _known(getattr(thing, "_shown", None))
    if fields := getattr(thing, "_fields", None):
        shown = {name: shape_of(getattr(thing, name)) for name in fields}
    return _written(thing, shown, lambda name: _attribute(thing, name))


def _written(thing: Any, shown: Mapping[str, Any], attribute: Callable[[str], Any]) -> str:
    arguments = _arguments(type(thing))
    config: Any = None
    parts = []
    for name, default in arguments.items():
        value = shown[name] if name in shown else attribute(name)
        if value is _MISSING:
            config = _known(getattr(thing, "get_config", None)) if config is None else config
            value = config.get(name, _MISSING)
        if value is not _MISSING and not _same(value, default):
            parts.append(f"{name}={text(value)}")
    more = {name: each for name, each in shown.items() if name not in arguments}
    parts += [f"{name}={each}" for name, each in more.items() if isinstance(each, Words)]
    return f"{type(thing).__name__}({', '.join(parts)})"


def text(value: Any) -> str:
    """Returns a value as short text: small ones as Python writes them, arrays by their shape."""
    try:
        return _text(value)
    except Exception:
        return f"<{type(value).__name__}>"


def shape_of(value: Any) -> Any:
    """Returns an array's dtype and shape as `Words`, and anything else as it is."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return value
    sizes = "..." if getattr(shape, "rank", 0) is None else ", ".join(map(_size, shape))
    return Words(f"<{getattr(dtype, 'name', dtype)} [{sizes}]>")


def counted(things: Any, noun: str) -> Words:
    """Returns a number, or how many things there are, as `<3 models>`; `<models>` if unknown."""
    count = -1
    with contextlib.suppress(Exception):
        count = things if isinstance(things, int) else len(things)
    if count < 0:
        return Words(f"<{noun}s>")
    return Words(f"<{count} {noun}{'' if count == 1 else 's'}>")


def _text(value: Any) -> str:
    kind = type(value)
    if isinstance(value, Words):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _LETTERS else f"{value[: _LETTERS - 3]}...")
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, list) or kind is tuple:
        inner = [text(each) for each in value]
        if len(inner) > _ENTRIES:
            inner = [*inner[:3], f"... {len(inner)} in all"]
        if kind is not tuple:
            return f"[{', '.join(inner)}]"
        return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"
    if any(base.__name__ == "Variable" for base in kind.__mro__):
        number = np.asarray(value.numpy())
        return f"Variable({shape_of(number) if number.ndim else str(number)})"
    if isinstance(value, np.ndarray) and value.ndim and value.size <= _ENTRIES:
        return repr(value.tolist())
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return str(shape_of(value))
    if hasattr(kind, "trainable_weights"):  # a layer or a model
        return f"<{kind.__name__} {value.name!r}>"
    if inspect.isroutine(value) or isinstance(value, type):
        return value.__qualname__
    if kind.__repr__ is not repr_of and hasattr(value, "get_config"):
        return _written(value, {}, lambda name: _MISSING)  # attributes may be anything
    found = " ".join(repr(value).split())
    return found if len(found) <= _LETTERS or kind.__repr__ is repr_of else f"<{kind.__name__}>"


def _known(function: Any) -> Mapping[str, Any]:
    """Returns what a method without arguments says; nothing if it fails."""
    with contextlib.suppress(Exception):
        found = function()
        return found if isinstance(found, Mapping) else {}
    return {}


def _attribute(thing: Any, name: str) -> Any:
    with contextlib.suppress(Exception):
        value = getattr(thing, name)
        return _MISSING if inspect.ismethod(value) else value
    return _MISSING


def _arguments(kind: type) -> dict[str, Any]:
    """Returns a class's constructor's arguments and their defaults."""
    if fields := getattr(kind, "_fields", None):  # a named tuple
        return dict.fromkeys(fields, _MISSING)
    with contextlib.suppress(TypeError, ValueError):
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]  # type: ignore[misc]
        several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        return {
            each.name: each.default
            for each in parameters
            if each.kind not in several and not each.name.startswith("_")
        }
    return {}


def _same(value: Any, default: Any) -> bool:
    """Returns whether a value is the default; anything but plain values counts by identity."""
    if isinstance(value, Words):
        return False
    plain = (bool, int, float, str, tuple, list)
    if isinstance(value, plain) and isinstance(default, plain):
        with contextlib.suppress(Exception):
            return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)
    return value is default


def _size(size: Any) -> str:
    return "?" if size is None else str(size)
