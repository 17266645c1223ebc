import keras
import numpy as np
import pytest

from aekd_tf import data, models

# Trainable parameters of the authors' networks, for 10 and for 100 classes.
PARAMETERS = {
    "resnet8": (78_042, 83_892),
    "resnet20": (272_474, 278_324),
    "resnet56": (855_770, 861_620),
    "resnet110": (1_730_714, 1_736_564),
    "wrn_40_2": (2_243_546, 2_255_156),
    "vgg13": (9_416_010, 9_462_180),
    "mobilenetv2": (697_546, 812_836),
}
# Of torchvision's networks, for 1,000 classes.
IMAGENET_PARAMETERS = {
    "imagenet_resnet18": 11_689_512,
    "imagenet_resnet34": 21_797_672,
    "imagenet_resnet50": 25_557_032,
}
# Height and channels at the end of each stage, for 32x32 images.
STAGES = {
    "resnet20": [(32, 16), (16, 32), (8, 64)],
    "resnet110": [(32, 16), (16, 32), (8, 64)],
    "resnet8x4": [(32, 64), (16, 128), (8, 256)],
    "resnet32x4": [(32, 64), (16, 128), (8, 256)],
    "wrn_16_1": [(32, 16), (16, 32), (8, 64)],
    "wrn_40_2": [(32, 32), (16, 64), (8, 128)],
    "vgg8": [(32, 64), (16, 128), (8, 256), (4, 512), (4, 512)],
    "vgg13": [(32, 64), (16, 128), (8, 256), (4, 512), (4, 512)],
    "mobilenetv2": [(16, 12), (8, 16), (4, 48), (2, 160)],
    "imagenet_resnet18": [(8, 64), (4, 128), (2, 256), (1, 512)],
    "imagenet_resnet50": [(8, 256), (4, 512), (2, 1024), (1, 2048)],
}


def parameters(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("classes", [10, 100])
def test_parameter_counts(name, classes):
    assert parameters(models.create(name, classes, (32, 32, 3))) == PARAMETERS[name][classes == 100]


@pytest.mark.parametrize("name", IMAGENET_PARAMETERS)
def test_imagenet_parameter_counts(name):
    assert parameters(models.create(name, 1000, (224, 224, 3))) == IMAGENET_PARAMETERS[name]


@pytest.mark.parametrize("name", STAGES)
def test_stages_of_a_real_forward_pass(name):
    model = models.create(name, 10, (32, 32, 3))
    stages = [model.get_layer(f"stage{s}").output for s in range(1, len(STAGES[name]) + 1)]
    *maps, logits = keras.Model(model.input, [*stages, model.output])(np.zeros((2, 32, 32, 3)))
    assert [tuple(m.shape) for m in maps] == [(2, h, h, c) for h, c in STAGES[name]]
    assert logits.shape == (2, 10)


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (17, 23, 4)])
def test_named_stages_at_any_size(shape):
    model = models.create("resnet8", 10, shape)
    height, width = shape[:2]
    for stage, channels in enumerate((16, 32, 64), start=1):
        output = model.get_layer(f"stage{stage}").output
        assert output.shape == (None, height, width, channels)
        height, width = -(-height // 2), -(-width // 2)
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", [name for name in models.names() if name.startswith("resnet")])
def test_depth_of_resnets(name):
    depth = sum("conv" in layer.name for layer in models.create(name, 10, (32, 32, 3)).layers)
    # Every weighted layer but the classifier; the projection shortcuts do not count.
    shortcuts = 3 if name.endswith("x4") else 2
    assert depth == int(name.removeprefix("resnet").removesuffix("x4")) - 1 + shortcuts


@pytest.mark.slow
@pytest.mark.parametrize("name", models.names())
def test_learns_the_digits(name):
    keras.utils.set_random_seed(0)
    digits = data.load("digits")
    images = digits.train.images.astype("float32") / 16
    if name.startswith("imagenet"):
        images = images.repeat(4, 1).repeat(4, 2)
    model = models.create(name, 10, images.shape[1:])
    model.compile(
        keras.optimizers.Adam(2e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    accuracy = 0.0
    for _ in range(30):
        model.fit(images, digits.train.labels, batch_size=64, verbose=0)
        # In inference mode, on moving statistics: what counts for a teacher.
        accuracy = model.evaluate(images, digits.train.labels, batch_size=400, verbose=0)[1]
        if accuracy > 0.95:
            break
    assert accuracy > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet9", 10, (32, 32, 3)), "unknown network 'resnet9': choose one of resnet8"),
        (("resnet8", 0, (32, 32, 3)), "num_classes is 0"),
        (("resnet8", 10, (7, 32, 3)), "at least 8x8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.create(*arguments)


@pytest.mark.parametrize("width", [4, 6, 25, 40])
def test_signals(width):
    model = models.create(f"cnn1d_{width}", 10, (40, 1))
    lengths = [model.get_layer(f"stage{s}").output.shape for s in (1, 2, 3)]
    assert lengths == [(None, length, width) for length in (20, 10, 5)]
    assert parameters(model) == 6 * width + 2 * (5 * width**2 + width) + 50 * width + 10
    assert model(np.zeros((2, 40, 1))).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "cnn1d_6",
            (32, 32, 3),
            r"cnn1d_6 takes signals \(length, channels\), not .*\(32, 32, 3\)",
        ),
        ("resnet8", (40, 1), r"resnet8 takes images \(height, width, channels\), not .*\(40, 1\)"),
        ("cnn1d_6", (7, 1), r"input_shape is \(7, 1\): signals must be at least 8 long"),
    ],
)
def test_a_network_says_which_inputs_it_takes(name, shape, message):
    with pytest.raises(ValueError, match=message):
        models.create(name, 10, shape)
