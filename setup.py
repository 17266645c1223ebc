"""Packaging of aekd_tf; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "aekd_tf/__init__.py").read_text())[1]

# Writing ONNX, and running exported files; writing LiteRT requires none of them.
EXPORT = ["ai-edge-litert>=2.1", "onnx>=1.17", "onnxruntime>=1.20", "tf2onnx>=1.17"]

setup(
    name="aekd_tf",
    version=VERSION,
    description="Adaptive ensemble knowledge distillation (AE-KD) for TensorFlow and Keras",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["aekd_tf", "aekd_tf.*"]),
    package_dir={"": "."},  # so that type checkers follow an editable installation
    package_data={"aekd_tf": ["py.typed"]},
    entry_points={"console_scripts": ["aekd-tf = aekd_tf.experiments.__main__:main"]},
    # The floors and ceilings are the versions that the tests were run with; tests/floor.txt.
    python_requires=">=3.11,<3.14",
    install_requires=[
        "absl-py>=2.0",
        "cvxopt>=1.3.2",
        "importlib_resources",  # tensorflow-datasets imports it without asking for it
        "keras>=3.15,<4",
        "matplotlib>=3.10.8",
        "numpy>=2.1",
        "scikit-learn>=1.5.2",
        "scipy>=1.14.1",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.20,<2.22",
        "tensorflow-datasets>=4.9.10",
        "tqdm>=4.60",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.20,<2.22"],
        "docs": ["ai-edge-litert>=2.1", "furo>=2025.9", "myst-nb>=1.3", "sphinx>=8.2"],
        "evidence": ["mnist1d>=0.0.2.post1"],
        "export": EXPORT,
        "test": [
            *EXPORT,
            "build>=1.2",
            "hypothesis>=6.100",
            "mnist1d>=0.0.2.post1",
            "mypy>=1.10",
            "pytest>=8.0,<9.2",  # pytest-xdist 3.8 groups no tests of 9.2
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "setuptools>=77",
        ],
    },
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX",  # caches and runs are locked with fcntl
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
