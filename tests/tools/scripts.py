"""Imports the repository's scripts, which are no package."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def script(path):
    """The module of a file such as tools/write_refusals.py."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
