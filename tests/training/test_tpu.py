"""Checks, without a TPU, that a training step is one program that a TPU can run."""

import re

import keras
import pytest
import tensorflow as tf
from keras import layers

from aekd_tf import EnsembleDistiller, quantize_aware
from tools.commands import main


def network(width):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(width, 3, 2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(width, 3, padding="same", name="stage2")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


HINTS = {"hints": "stage2", "hint_weight": 1.0}


@pytest.mark.parametrize(("kind", "options"), [("", {}), ("", HINTS), ("quantize_aware", HINTS)])
def test_whole_step_is_one_static_program(kind, options):
    student = quantize_aware(network(4)) if kind else network(4)
    distiller = EnsembleDistiller(student, [network(5), network(6), network(7)], **options)
    distiller.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    images, labels = tf.zeros([8, 8, 8, 1]), tf.zeros([8], tf.int32)
    distiller.build(images.shape)
    distiller.optimizer.build(distiller.trainable_variables)
    distiller.compute_metrics(images, labels, tf.zeros([8, 5]))
    step = tf.function(lambda *batch: distiller.train_step(batch), jit_compile=True)
    program = step.experimental_get_compiler_ir(images, labels)(stage="hlo")
    assert "convolution" in program
    assert "while" in program  # the QP
    for foreign in ("custom-call", "<=", "infeed", "outfeed", "send(", "recv("):
        assert foreign not in program, foreign
    assert "f64[" in program
    # Only the QP is in float64. Its arrays have an axis of at most 3 teachers, or of all 9 pairs.
    # A TPU emulates that arithmetic, and can neither see a float64's bits nor multiply matrices.
    for line in program.splitlines():
        if "f64[" in line:
            shapes = re.findall(r"f64\[([\d,]*)\]", line)
            axes = {int(axis) for shape in shapes for axis in shape.split(",") if axis}
            assert axes <= {1, 2, 3, 9}, line
            assert not re.search("bitcast-convert|dot\\(|convolution", line), line


def test_absent_tpu_is_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main("digits", ["--strategy=tpu"]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.strip().splitlines()) == 1
    assert "strategy=tpu found no TPU" in captured.err
    assert "--strategy=none" in captured.err
    assert not list(tmp_path.iterdir())
