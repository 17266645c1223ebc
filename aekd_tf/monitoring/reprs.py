"""Says in one line what an object is: its class, and its settings that are not the default.

A class takes it by `__repr__ = repr_of`. Nothing here raises, runs an operation, or takes long,
whatever an object holds.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

# Entries of a list or an array, letters of a text, and values in all that are shown in full.
_ENTRIES, _LETTERS, _VALUES = 8, 80, 100
_MISSING: Any = object()
_PLAIN = (bool, int, float, complex, type(None), type(...))


class Words(str):
    """A text that is shown as it is, without quotation marks, even if it is the default."""


class _Progress(threading.local):
    """What is being shown: values inside of each other, and how many there were."""

    def __init__(self) -> None:
        self.within: list[int] = []
        self.count = 0


_PROGRESS = _Progress()


def repr_of(thing: Any) -> str:
    """Returns `Name(setting=value, ...)` with the settings that differ from their default.

    A setting is an argument of the constructor, in its order. Its value is the entry in what
    the method `_shown()` of its class returns, else the attribute of that name, else the entry
    in `get_config()`. `Words` that `_shown` has beside the arguments come last. Arrays of a
    named tuple are shown by their shapes alone.
    """
    return _guarded(thing, _of_thing)


def text(value: Any) -> str:
    """Returns a value as short text: small ones as Python writes them, arrays by their shape."""
    return _guarded(value, _text)


def shape_of(value: Any) -> Any:
    """Returns an array's dtype and shape as `Words`, and anything else as it is."""
    with contextlib.suppress(Exception):
        shape, dtype = value.shape, value.dtype
        sizes = "..." if getattr(shape, "rank", 0) is None else ", ".join(map(_size, shape))
        return Words(f"<{getattr(dtype, 'name', dtype)} [{sizes}]>")
    return value


def counted(things: Any, noun: str) -> Words:
    """Returns a number, or how many things there are, as `<3 models>`; `<models>` if unknown."""
    count = -1
    with contextlib.suppress(Exception):
        count = things if isinstance(things, int) else len(things)
    if count < 0:
        return Words(f"<{noun}s>")
    return Words(f"<{count} {noun}{'' if count == 1 else 's'}>")


def _guarded(value: Any, written: Callable[[Any], str]) -> str:
    """Returns `written(value)`; the class alone for a value inside itself, or after many values."""
    progress, short = _PROGRESS, f"<{type(value).__name__}>"
    if not progress.within:
        progress.count = 0
    progress.count += 1
    # A thing is shown by `text` and then by `repr_of`: the same one, not one inside itself.
    inside = id(value) in progress.within[: -1 if written is _of_thing else None]
    if inside or progress.count > _VALUES:
        return short
    progress.within.append(id(value))
    try:
        return written(value)
    except Exception:
        return short
    finally:
        progress.within.pop()


def _of_thing(thing: Any) -> str:
    method = getattr(type(thing), "_shown", None)
    shown = _known(lambda: method(thing)) if callable(method) else {}
    if isinstance(thing, tuple) and (fields := getattr(type(thing), "_fields", None)):
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


def _text(value: Any) -> str:
    kind = type(value)
    if isinstance(value, Words):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _LETTERS else f"{value[: _LETTERS - 3]}...")
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, list) or kind is tuple:
        return _sequence(value)
    if any(base.__name__ == "Variable" for base in kind.__mro__):
        return _variable(value)
    if isinstance(value, np.ndarray) and value.ndim and value.size <= _ENTRIES:
        return repr(value.tolist())
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return str(shape_of(value))
    if hasattr(kind, "trainable_weights"):  # a layer or a model
        return f"<{kind.__name__} {value.name!r}>"
    if inspect.isroutine(value) or isinstance(value, type):
        return value.__qualname__
    if kind.__repr__ is repr_of or isinstance(value, _PLAIN):
        return repr(value)
    if hasattr(value, "get_config"):
        return _written(value, {}, lambda name: _MISSING)  # attributes may be anything
    return f"<{kind.__name__}>"


def _sequence(values: list[Any] | tuple[Any, ...]) -> str:
    inner = [text(each) for each in values[: _ENTRIES if len(values) <= _ENTRIES else 3]]
    if len(values) > _ENTRIES:
        inner.append(f"... {len(values)} in all")
    if isinstance(values, list):
        return f"[{', '.join(inner)}]"
    return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})"


def _variable(variable: Any) -> str:
    """Returns a variable's number if it is one that can be read, else its shape."""
    tensorflow = sys.modules.get("tensorflow")
    if len(variable.shape) or (tensorflow and not tensorflow.executing_eagerly()):
        return f"Variable({shape_of(variable)})"
    return f"Variable({np.asarray(variable.numpy())!s})"


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
    if issubclass(kind, tuple) and (fields := getattr(kind, "_fields", None)):
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
