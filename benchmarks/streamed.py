"""Caches images that are read from disk: what an epoch costs, what memory it takes, and kills.

    python benchmarks/streamed.py docs/streamed.md

It makes sets of JPEGs of varied sizes in TensorFlow Datasets' format, and fills a cache of them.
Epochs with and without the cached outputs take turns in one process. Memory is the anonymous
part, at its largest while a cache is filled and an epoch is read, in a process per size of the
set. Fills are killed with SIGKILL at random moments and go on. No finished shard may be computed
again, and the file must equal that of a fill that was not killed.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from aekd_tf import TeacherCache, Views, data
from aekd_tf.experiments.paper.render import markdown_table
from aekd_tf.files import write_text

SMALL, LARGE = 1_000, 50_000
ROUNDS, KILLS = 7, 10
SIZE, CLASSES, TEACHERS, BATCH = 32, 10, 10, 64


class Jpegs(tfds.core.GeneratorBasedBuilder):
    """Random JPEGs of 32 to 96 pixels per side; their number is the configuration's name."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=str(n)) for n in (SMALL, 20_000, LARGE))

    def _info(self) -> tfds.core.DatasetInfo:
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=CLASSES),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: object) -> dict:
        return {
            "train": self._generate_examples(int(self.builder_config.name)),
            "test": self._generate_examples(64),
        }

    def _generate_examples(self, count: int):
        rng = np.random.default_rng(count)
        for number in range(count):
            sides = rng.integers(32, 97, 2)
            small = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(small).resize(tuple(map(int, sides))).save(buffer, "JPEG")
            yield number, {"image": io.BytesIO(buffer.getvalue()), "label": number % CLASSES}


def prepared(directory: str, count: int) -> data.Dataset:
    name = f"jpegs/{count}"
    tfds.builder(name, data_dir=directory, file_format="tfrecord").download_and_prepare()
    return data.load(name, data_dir=directory, image_size=SIZE, validation_examples=0)


def teacher(seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    maps = keras.layers.Conv2D(8, 3, 2, activation="relu")(inputs)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(inputs, keras.layers.Dense(CLASSES)(pooled))


def cache_of(directory: str, count: int) -> TeacherCache:
    dataset = prepared(directory, count)
    return TeacherCache(os.path.join(directory, f"cache_{count}"), dataset, Views(1), BATCH)


def epoch(cache: TeacherCache, outputs: bool) -> float:
    """CPU seconds of one epoch."""
    batches = cache.dataset(BATCH, seed=1, outputs=outputs)
    started = time.process_time()
    for _ in batches:
        pass
    return time.process_time() - started


def costs(directory: str) -> float:
    """Returns the ratio of an epoch with cached outputs to one of the images alone."""
    cache = cache_of(directory, 20_000)
    cache.fill([teacher(seed) for seed in range(TEACHERS)])
    for outputs in (True, False):
        epoch(cache, outputs)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for turn in tqdm(range(ROUNDS), desc="epochs", unit=" rounds", ascii=" ="):
        for outputs in (True, False) if turn % 2 else (False, True):
            seconds[outputs].append(epoch(cache, outputs))
    return float(np.median(seconds[True]) / np.median(seconds[False]))


def anonymous() -> float:
    """Megabytes of this process that are not files' pages."""
    with open("/proc/self/status", encoding="utf-8") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["RssAnon"].split()[0]) / 1e3


def memory(directory: str, count: int) -> float:
    """Returns the most megabytes while a cache is filled and an epoch is read."""
    cache, largest, ended = cache_of(directory, count), [0.0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            largest[0] = max(largest[0], anonymous())

    watching = threading.Thread(target=watch)
    watching.start()
    cache.fill([teacher(0)], progress=False)
    epoch(cache, True)
    ended.set()
    watching.join()
    return largest[0]


def fill(directory: str, count: int) -> int:
    """Fills a cache in this process and returns how many shards it computed."""
    cache = TeacherCache(
        os.path.join(directory, "killed"), prepared(directory, count), Views(3), BATCH
    )
    return cache.fill([teacher(0)], progress=False)


def finished(directory: str) -> dict[str, str]:
    path = os.path.join(directory, "killed", "teacher_0.json")
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as file:
        return json.load(file)["checksums"]


def outcome(case: str, directory: str, count: int) -> float:
    """Returns what a process of its own measures."""
    return float(json.loads(start(case, directory, count).communicate()[0].splitlines()[-1]))


def start(case: str, directory: str, count: int) -> subprocess.Popen:
    command = [sys.executable, os.path.abspath(__file__), "--case", case, directory, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kills(directory: str) -> tuple[int, int]:
    """Returns how many of the kills were made good, and how many shards they had finished."""
    path = os.path.join(directory, "killed", "teacher_0.npy")
    total = int(outcome("fill", directory, 20_000))
    expected, rng, good, known = np.load(path).copy(), random.Random(0), 0, 0
    for _ in tqdm(range(KILLS), desc="kills", unit=" kills", ascii=" ="):
        for name in os.listdir(os.path.dirname(path)):
            os.remove(os.path.join(os.path.dirname(path), name))
        process = start("fill", directory, 20_000)
        wanted = rng.randrange(1, total - 1)
        while len(finished(directory)) < wanted and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        before = len(finished(directory))
        computed = int(outcome("fill", directory, 20_000))
        known += before
        good += computed == total - before and np.array_equal(np.load(path), expected)
    return good, known


def main(page: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for count in (SMALL, 20_000, LARGE):
            prepared(directory, count)
        ratio = costs(directory)
        small, large = (outcome("memory", directory, count) for count in (SMALL, LARGE))
        good, known = kills(directory)
    rows = [
        ["CPU seconds of an epoch, with the outputs of 10 teachers / images alone", f"{ratio:.3f}"],
        [f"anonymous memory, {SMALL:,} images, MB", f"{small:.0f}"],
        [f"anonymous memory, {LARGE:,} images, MB", f"{large:.0f} ({large / small:.3f} times)"],
        ["killed fills that ended right, without computing a shard again", f"{good} of {KILLS}"],
        ["shards that these had finished when they were killed, together", f"{known}"],
    ]
    text = [
        "# Images read from disk, cached",
        "",
        "Made by `python benchmarks/streamed.py docs/streamed.md`; its docstring says how.",
        "",
        markdown_table(["", ""], rows),
    ]
    write_text(page, "\n".join(text).rstrip() + "\n")
    print("\n".join(text))


CASES = {"memory": memory, "fill": fill}

if __name__ == "__main__":
    tf.get_logger().setLevel("ERROR")
    if sys.argv[1] == "--case":
        print(json.dumps(CASES[sys.argv[2]](sys.argv[3], int(sys.argv[4]))))
    else:
        main(sys.argv[1])
