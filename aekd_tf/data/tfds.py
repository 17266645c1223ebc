"""Finds a data set of TensorFlow Datasets on disk, or downloads it."""

from __future__ import annotations

import os
import socket
import urllib.request
from typing import Any

from aekd_tf.data.dataset import DataError
from aekd_tf.names import DATASETS_IN_MEMORY


def prepared_builder(name: str, data_dir: str | None) -> Any:
    """Returns a TensorFlow Datasets builder whose data are on disk, and downloads them if needed.

    Raises:
        DataError: unknown name; the data cannot be read or downloaded.
    """
    import tensorflow_datasets as tfds
    from absl import logging

    logging.set_verbosity(logging.ERROR)  # it warns about folders that it then creates itself
    directory = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    advice = (
        "give data_dir (or TFDS_DATA_DIR), a folder that holds it prepared; load('digits') "
        "requires no download"
    )
    try:
        builder = tfds.builder(name, data_dir=directory)
        if builder.is_prepared():
            return builder
    except tfds.core.DatasetNotFoundError as error:
        raise DataError(
            f"unknown dataset {name!r}: choose one of {', '.join(DATASETS_IN_MEMORY)}, or a name "
            "from https://www.tensorflow.org/datasets/catalog"
        ) from error
    except Exception as error:
        raise DataError(
            f"{name} in {directory} cannot be read ({first_line(error)}): {advice}"
        ) from error
    place = os.path.expanduser(directory or tfds.core.constants.DATA_DIR)
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        manual = os.path.join(place, "downloads", "manual")
        files = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
        if not (os.path.isdir(manual) and os.listdir(manual)):
            raise DataError(
                f"{name} is not in {place} and must be downloaded by hand into {manual}: {files}"
            )
    # Without a network, TensorFlow Datasets would try for minutes.
    elif not urllib.request.getproxies() and not _reachable("storage.googleapis.com"):
        raise DataError(f"{name} is not in {place} and there is no network: {advice}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        reason = first_line(error)
        raise DataError(
            f"{name} could not be downloaded to {place} ({reason}): {advice}"
        ) from error
    return builder


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its representation if it has none."""
    return (str(error).strip() or repr(error)).splitlines()[0]


def _reachable(host: str, seconds: float = 3.0) -> bool:
    try:
        socket.create_connection((host, 443), timeout=seconds).close()
    except OSError:
        return False
    return True
