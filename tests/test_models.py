import numpy as np
import pytest

from aekd_tf import models

# Trainable parameters of the authors' networks, for 10 and for 100 classes.
PARAMETERS = {
    "resnet8": (78_042, 83_892),
    "resnet20": (272_474, 278_324),
    "resnet56": (855_770, 861_620),
    "resnet110": (1_730_714, 1_736_564),
}


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("classes", [10, 100])
def test_parameter_counts(name, classes):
    model = models.create(name, classes, (32, 32, 3))
    count = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert count == PARAMETERS[name][classes == 100]


@pytest.mark.parametrize("shape", [(8, 8, 1), (32, 32, 3), (17, 23, 4)])
def test_named_stages_at_any_size(shape):
    model = models.create("resnet8", 10, shape)
    height, width = shape[:2]
    for stage, channels in enumerate((16, 32, 64), start=1):
        output = model.get_layer(f"stage{stage}").output
        assert output.shape == (None, height, width, channels)
        height, width = -(-height // 2), -(-width // 2)
    assert model.output_shape == (None, 10)


def test_all_names_build():
    assert models.names() == [f"resnet{depth}" for depth in (8, 14, 20, 32, 44, 56, 110)]
    for name in ("resnet14", "resnet32", "resnet44"):
        depth = sum("conv" in layer.name for layer in models.create(name, 10, (32, 32, 3)).layers)
        # Every weighted layer but the classifier and the two projection shortcuts.
        assert depth == int(name.removeprefix("resnet")) - 1 + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet9", 10, (32, 32, 3)), "unknown network 'resnet9': choose one of resnet8"),
        (("resnet8", 1, (32, 32, 3)), "num_classes is 1"),
        (("resnet8", 10, (7, 32, 3)), "at least 8x8"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        models.create(*arguments)
