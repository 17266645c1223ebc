"""Files of the first stage load, after `import aekd_tf` alone.

`fixtures/first_stage.keras` is a distiller of version 0.1.0 with hints, an adapter and
`UniformWeighting(average="outputs")`; `first_stage.npz` holds what its models said.
"""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import aekd_tf
from tools import forked

FIXTURES = Path(__file__).parent / "fixtures"


def test_a_distiller_of_the_first_stage_is_what_it_was():
    distiller = keras.models.load_model(FIXTURES / "first_stage.keras")
    said = np.load(FIXTURES / "first_stage.npz")
    inputs = said["inputs"]
    np.testing.assert_allclose(distiller.predict(inputs, verbose=0), said["student"], atol=1e-6)
    for index, teacher in enumerate(distiller.teachers):
        outputs = teacher.predict(inputs, verbose=0)
        np.testing.assert_allclose(outputs, said[f"teacher_{index}"], rtol=1e-5, atol=1e-5)
    kernel = distiller.regressors.regressors[0].convolution.kernel
    np.testing.assert_array_equal(kernel, said["regressor_0"])
    assert isinstance(distiller.teachers[1], aekd_tf.TeacherAdapter)
    assert (distiller.temperature, distiller.kd_weight, distiller.hint_weight) == (3.0, 0.7, 0.5)
    assert distiller.weighting.get_config() == {"average": "outputs"}
    assert distiller.hints.first_epoch == 2
    assert distiller.hint_weighting.normalize
    labels = np.random.default_rng(0).integers(0, 4, len(inputs))
    history = distiller.fit(inputs, labels, epochs=2, verbose=0).history
    assert np.isfinite(history["hint_loss"]).all()


def fresh_output(code):
    """What it prints in a process that nothing was imported in."""
    return subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True
    ).stdout


RUN = {"import aekd_tf, keras": fresh_output, "import keras, aekd_tf": forked.output}


@pytest.mark.parametrize("order", RUN)
def test_import_of_the_package_alone_lets_keras_load(order):
    printed = RUN[order](
        f"{order}, sys\n"
        "assert 'aekd_tf.distiller' not in sys.modules\n"
        f"print(type(keras.models.load_model({str(FIXTURES / 'first_stage.keras')!r})).__name__)"
    )
    assert printed.strip() == "EnsembleDistiller"


def test_import_of_the_package_loads_nothing_heavy():
    code = "import sys, aekd_tf; assert not {'keras', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_registered_class_has_a_stand_in():
    from aekd_tf import registration

    pattern = 'keras.saving.register_keras_serializable("aekd_tf")\nclass '
    registered = set()
    for path in Path(aekd_tf.__file__).parent.rglob("*.py"):
        for part in path.read_text(encoding="utf-8").split(pattern)[1:]:
            registered.add(part.partition("(")[0].partition(":")[0])
    assert set(registration.HOMES) == registered
