"""A quantization-aware student computes what its int8 file computes, whatever its layers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

import aekd_tf
from aekd_tf.export.fake_quantization import FakeQuantized
from aekd_tf.export.freezing import FreezeRanges
from aekd_tf.export.rounding import ranges, rounded_kernel
from tools.refused import refused

L = keras.layers
CLASSES = 10


def of(shape, count=192):
    """Noisy examples of ten patterns, and their classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    patterns = rng.normal(size=(CLASSES, *shape))
    return (patterns[labels] + rng.normal(size=(count, *shape))).astype(np.float32), labels


def plain_stack():
    """Twenty convolutions, one after the other: each rounding error meets all later ones."""
    x = inputs = keras.Input((8, 8, 3))
    for number in range(20):
        x = L.Conv2D(8, 3, 2 if number == 10 else 1, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
    return keras.Model(inputs, L.Dense(CLASSES)(L.GlobalAveragePooling2D()(x)))


def all_layers():
    """Every layer that is simulated, in places where ranges are shared, joined or taken over."""
    inputs = keras.Input((8, 8, 3), name="pixels")
    x = L.Rescaling(1 / 3, offset=0.1)(inputs)
    first = L.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    twice = L.Add(name="twice")([first, L.Conv2D(8, 3, padding="same")(first)])
    average = L.AveragePooling2D(2, name="average")(L.ReLU()(twice))
    parts = [L.MaxPooling2D(2)(twice), L.Conv2D(8, 1, activation="relu6")(average), average]
    x = L.Activation("relu")(L.BatchNormalization()(L.Concatenate(name="joined")(parts)))
    x = L.DepthwiseConv2D(3, 2, depth_multiplier=2, use_bias=False)(L.ZeroPadding2D(1)(x))
    x = L.SpatialDropout2D(0.1)(L.ReLU(6.0)(L.BatchNormalization(scale=False)(x)))
    flat = L.Flatten()(x)
    left = L.ReLU()(L.BatchNormalization(center=False)(L.Dense(8)(flat)))
    right = L.Dense(8, activation="relu")(L.BatchNormalization()(L.Dropout(0.1)(flat)))
    x = L.Add(name="three")([left, right, L.Dense(8)(flat)])
    return keras.Model(inputs, L.Dense(CLASSES, name="logits")(L.Add()([x, left])))


def shared_and_nested():
    """One block of layers twice, a model inside."""
    block = [L.Conv2D(3, 3, padding="same"), L.BatchNormalization(), L.ReLU()]
    inner = [L.Conv2D(8, 3, strides=2, use_bias=False), L.BatchNormalization(), L.ReLU()]
    x = inputs = keras.Input((8, 8, 3))
    for layer in (*block, *block, keras.Sequential([keras.Input((8, 8, 3)), *inner])):
        x = layer(x)
    return keras.Model(inputs, L.Dense(CLASSES)(L.GlobalMaxPooling2D()(x)))


def of_numbers():
    normalization = L.Normalization()
    normalization.adapt(of((12,))[0])
    layers = [normalization, L.Dense(16, "relu"), L.BatchNormalization(), L.Dense(CLASSES)]
    return keras.Sequential([keras.Input((12,)), *layers])


def of_signals():
    layers = [
        L.Conv1D(6, 5, strides=2, padding="same", activation="relu"),
        L.BatchNormalization(),
        L.DepthwiseConv1D(3, padding="same"),
        L.ReLU(),
        L.MaxPooling1D(2),
        L.GlobalAveragePooling1D(),
        L.Dense(CLASSES),
    ]
    return keras.Sequential([keras.Input((32, 2)), *layers])


STUDENTS = {
    "plain stack": plain_stack,
    "all layers": all_layers,
    "shared and nested": shared_and_nested,
    "numbers": of_numbers,
    "signals": of_signals,
}
LONG = ("plain stack", "signals")  # signals always run with 4 bits
SHORT = [name for name in STUDENTS if name not in LONG]
NETWORKS = ("resnet20", "resnet8x4", "wrn_16_1", "vgg8", "mobilenetv2", "imagenet_resnet18")


def aware_of(student, **options):
    """Its copy, with ranges and statistics of batches, but without a step of an optimizer."""
    aware = aekd_tf.quantize_aware(student, **options)
    x, _ = of(student.input_shape[1:])
    for _ in range(8):
        aware(x, training=True)
    return aware


def run(model, path, x):
    """What the int8 file computes, the step of its outputs, and the dtypes of its tensors."""
    eight_bits = {f"inference_{end}_type": tf.int8 for end in ("input", "output")}
    default = [tf.lite.Optimize.DEFAULT]
    model.export(path, format="litert", verbose=False, optimizations=default, **eight_bits)
    interpreter = Interpreter(str(path))
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.resize_tensor_input(given["index"], x.shape)
    interpreter.allocate_tensors()
    scale, zero = given["quantization"]
    whole = np.clip(np.round(x / scale) + zero, -128, 127).astype(np.int8)
    interpreter.set_tensor(given["index"], whole)
    interpreter.invoke()
    scale, zero = got["quantization"]
    outputs = (interpreter.get_tensor(got["index"]).astype(np.float32) - zero) * scale
    dtypes = {np.dtype(each["dtype"]).name for each in interpreter.get_tensor_details()}
    return outputs, scale, dtypes


@pytest.fixture(scope="module")
def aware():
    """Quantization-aware students, each trained once."""
    made = {}

    def get(name):
        if name not in made:
            keras.utils.set_random_seed(0)
            made[name] = aware_of(STUDENTS[name]())
        return made[name]

    return get


def check(model, path, *, classes=True):
    x, _ = of(model.input_shape[1:])
    found, step, dtypes = run(model, path, x)
    simulated = model(x, training=False).numpy()
    steps = np.abs(found - simulated) / step
    assert dtypes == {"int8", "int32"}
    assert np.mean(steps < 2.01) >= 0.98
    if classes:
        assert np.mean(found.argmax(1) == simulated.argmax(1)) >= 0.99


@pytest.mark.parametrize("name", [*SHORT, *(pytest.param(n, marks=pytest.mark.slow) for n in LONG)])
def test_the_file_computes_what_the_training_saw(aware, tmp_path, name):
    # Untrained, the one with all layers often gives two classes the same logit.
    check(aware(name), tmp_path / "student.tflite", classes=name != "all layers")


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_package(tmp_path, name):
    """Trained, so that their classes are no accident of rounding."""
    keras.utils.set_random_seed(0)
    aware = aekd_tf.quantize_aware(aekd_tf.models.create(name, CLASSES, (16, 16, 3)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    aware.compile(keras.optimizers.Adam(0.003), loss)
    x, labels = of((16, 16, 3))
    aware.fit(x, labels, epochs=10, batch_size=32, verbose=0, callbacks=[FreezeRanges()])
    check(aware, tmp_path / "student.tflite")


def test_fewer_bits(tmp_path):
    bits = 4
    keras.utils.set_random_seed(0)
    aware = aware_of(of_signals(), weight_bits=bits)
    assert aware.quantize_aware_bits == bits
    check(aware, tmp_path / "student.tflite", classes=False)
    for layer in (each for each in aware.layers if isinstance(each, FakeQuantized)):
        kernel, bias = layer.kernel_of_channels(), tf.zeros(layer.layer.kernel.shape[-1:])
        values = rounded_kernel(kernel, ranges(kernel, bias), bits).numpy()
        for channel in values.reshape(-1, values.shape[-1]).T:
            assert len(np.unique(channel)) <= 2**bits - 1


def test_it_starts_from_the_student_which_stays_as_it_is():
    keras.utils.set_random_seed(0)
    student = all_layers()
    x, labels = of((8, 8, 3), 64)
    weights, outputs = student.get_weights(), student(x, training=False).numpy()
    aware = aekd_tf.quantize_aware(student)
    rounded = aware(x, training=False).numpy()
    assert 0 < np.abs(rounded - outputs).max() < 0.02 * np.abs(outputs).max()
    with tf.GradientTape() as tape:
        loss = keras.losses.sparse_categorical_crossentropy(
            labels, aware(x, training=True), from_logits=True
        )
    gradients = tape.gradient(loss, aware.trainable_variables)
    for variable, gradient in zip(aware.trainable_variables, gradients, strict=True):
        assert np.any(gradient.numpy() != 0), variable.path
        variable.assign_sub(gradient)
    for now, then in zip(student.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(now, then)
    assert {"twice", "average", "joined", "logits"} <= {layer.name for layer in aware.layers}
    # As many parameters to train, apart from the constants of the file.
    assert sum(map(np.size, aware.trainable_variables)) == sum(
        map(np.size, student.trainable_variables)
    )


@pytest.mark.parametrize("name", ["all layers", "shared and nested"])
def test_saved_loaded_and_cloned(aware, tmp_path, name):
    model = aware(name)
    x, _ = of(model.input_shape[1:])
    model.save(tmp_path / "aware.keras")
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    for other in (keras.models.load_model(tmp_path / "aware.keras"), clone):
        assert type(other) is type(model)
        assert other.quantize_aware_bits == 8
        np.testing.assert_array_equal(other(x, training=False), model(x, training=False))


def test_several_outputs_and_inputs_keep_their_names():
    inputs = {"left": keras.Input((4,), name="left"), "right": keras.Input((3,), name="right")}
    hidden = L.Concatenate()([L.Dense(4)(inputs["left"]), inputs["right"]])
    outputs = {"classes": L.Dense(3, name="classes")(hidden), "hidden": hidden}
    aware = aekd_tf.quantize_aware(keras.Model(inputs, outputs))
    given = {"left": np.ones((2, 4), np.float32), "right": np.ones((2, 3), np.float32)}
    found = aware(given, training=True)
    assert {name: value.shape for name, value in found.items()} == {
        "classes": (2, 3),
        "hidden": (2, 7),
    }


def test_a_student_of_half_precision_trains_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        student = of_signals()
        aware = aekd_tf.quantize_aware(student)
    finally:
        keras.config.set_dtype_policy(policy)
    assert student.compute_dtype == "float16"
    assert aware.dtype_policy.name == "float32"
    x, _ = of((32, 2), 8)
    assert aware(x, training=True).dtype == tf.float32
    np.testing.assert_allclose(aware(x), student(x), atol=0.05)


def one(layer, shape=(8, 8, 3)):
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


REFUSED = {
    "LeakyReLU": lambda: one(L.LeakyReLU(name="leaky")),
    "ReLU with negative_slope": lambda: one(L.ReLU(negative_slope=0.1)),
    "ReLU with max_value": lambda: one(L.ReLU(max_value=3.0)),
    "Conv2D with activation=gelu": lambda: one(L.Conv2D(4, 3, activation="gelu")),
    "Activation with activation=softmax": lambda: one(L.Activation("softmax")),
    "Conv2D with groups": lambda: one(L.Conv2D(3, 3, groups=3)),
    "Conv1D with padding='causal'": lambda: one(L.Conv1D(4, 3, padding="causal"), (8, 3)),
    "MaxPooling2D with channels first": lambda: one(L.MaxPooling2D(data_format="channels_first")),
    "Dense with inputs of more than 2 axes": lambda: one(L.Dense(3)),
    "BatchNormalization with axis": lambda: one(L.BatchNormalization(axis=1)),
    "Normalization with invert": lambda: one(L.Normalization(mean=0.0, variance=1.0, invert=True)),
    "Multiply": lambda: one(lambda x: L.Multiply()([x, x])),
    "Add of a constant": lambda: one(lambda x: x + 1.0),
    "Lambda": lambda: one(L.Lambda(lambda x: x)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_simulated_is_named(reason):
    with refused(reason, "give a student of"):
        aekd_tf.quantize_aware(REFUSED[reason]())


def test_the_layer_is_named_and_so_are_other_models():
    with refused("leaky: LeakyReLU"):
        aekd_tf.quantize_aware(REFUSED["LeakyReLU"]())

    class Own(keras.Model):
        pass

    for model in (Own(), keras.Sequential([L.Dense(3)])):
        with refused("give a functional or sequential keras.Model"):
            aekd_tf.quantize_aware(model)
    with refused("weight_bits is 9: give a whole number from 2 to 8"):
        aekd_tf.quantize_aware(of_numbers(), weight_bits=9)
