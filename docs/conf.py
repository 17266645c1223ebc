"""Builds the site: sphinx-build -W docs OUT.

The site works from disk: equations are MathML, and nothing is loaded from the network.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.inspect import stringify_signature

import aekd_tf
from aekd_tf.export.quiet import quiet

with quiet():
    import tensorflow  # noqa: F401  its banner would be shown in the middle of the build

# What the pages' kernels inherit.
GOLDEN = Path(__file__).parents[1] / "tests" / "fixtures" / "golden.npz"
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TQDM_DISABLE": "1", "AEKD_TF_GOLDEN": str(GOLDEN)}

project = "aekd_tf"
author = "the aekd_tf authors"
copyright = "2026, " + author
version = release = aekd_tf.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["results/*template.md"]
html_theme = "furo"
html_title = f"aekd_tf {release}"
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"

default_role = "py:obj"  # a name in backquotes becomes a link where there is one
add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_merge_streams = False
nb_output_stderr = "remove"  # TensorFlow's banner, progress bars


def _quiet_kernel() -> str:
    """Returns a folder with a kernel "python3" that does not repeat stderr on the terminal."""
    python = shlex.quote(sys.executable)
    run = f"exec {python} -m ipykernel_launcher -f {{connection_file}} 2>/dev/null"
    spec = {"argv": ["sh", "-c", run], "display_name": "Python 3", "language": "python"}
    folder = Path(tempfile.mkdtemp()) / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    return str(folder.parents[1])


os.environ["JUPYTER_PATH"] = _quiet_kernel()


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    number = f'<span class="eqno">({node["number"]})</span>' if node["number"] else ""
    equation = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="math">{number}{equation}</div>')
    raise nodes.SkipNode


def _signature(
    app: Any, kind: str, name: str, thing: Any, options: Any, shown: str, returned: str
) -> tuple[str, str] | None:
    """Shows what a class takes, although Keras hides it behind a `__new__` of its own."""
    if kind != "class" or shown != "(*args, **kwargs)":
        return None
    parameters = list(inspect.signature(thing.__init__).parameters.values())[1:]
    return stringify_signature(inspect.Signature(parameters)), returned


def setup(app: Any) -> None:
    """Lets equations be MathML, which browsers draw without a script."""
    app.connect("autodoc-process-signature", _signature)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
