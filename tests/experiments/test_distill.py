"""The command that distills on a user's own data."""

import json
import shutil

import keras
import numpy as np
import pytest

from aekd_tf.experiments.command.config import Config
from tools import photos
from tools.commands import call, parse
from tools.small_runs import small_runs

QUICK = ("--epochs=1", "--teacher_epochs=1", "--batch_size=32")
rng = np.random.default_rng(0)
LABELS = np.arange(150) % 3
TABLE = (rng.normal(size=(150, 4)) + LABELS[:, None]).astype(np.float32)


@pytest.fixture(autouse=True)
def small_networks():
    with small_runs():
        yield


def model(outputs, ending=None, seed=0, inputs=4, scale=1.0):
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Rescaling(scale), keras.layers.Dense(outputs, activation=ending)]
    return keras.Sequential([keras.Input((inputs,)), *layers])


def trained(path, labels, outputs, ending=None, seed=0):
    """Writes a trained teacher of the table."""
    network = model(outputs, ending, seed)
    loss = "mse"
    if outputs > 1:
        logits = ending is None
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=logits)
    elif set(np.unique(labels)) == {0, 1}:
        loss = keras.losses.BinaryCrossentropy(from_logits=ending is None)
    network.compile(keras.optimizers.Adam(0.05), loss, jit_compile=False)
    network.fit(TABLE, labels, epochs=15, verbose=0)
    network.save(path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the table, and its models."""
    directory = tmp_path_factory.mktemp("models")
    np.savez(directory / "table.npz", x=TABLE, y=LABELS)
    model(3, seed=9).save(directory / "student.keras")
    trained(directory / "a.keras", LABELS, 3, "softmax", seed=1)
    trained(directory / "b.keras", LABELS, 3, seed=2)
    return directory


@pytest.fixture
def place(models, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(models, tmp_path / "place")


def distill(place, *arguments, data="table.npz", student="student.keras"):
    return call(
        "distill",
        f"--data={place / data}",
        f"--student={place / student}" if student.endswith(".keras") else f"--student={student}",
        f"--output_dir={place}/run",
        *QUICK,
        *arguments,
    )


def results(place):
    return json.loads((place / "run" / "results.json").read_text())


def test_own_models_on_a_table(place):
    done = distill(place, f"--teachers={place}/a.keras,{place}/b.keras")
    assert done.returncode == 0, done.stderr
    plan = done.stdout.splitlines()
    assert plan[0] == f"{place}/table.npz: 3 classes (0, 1, 2), loss kl"
    assert "held out 30 for test and 12 for validation, by the examples' digests" in done.stdout
    assert "inputs have the shape 4, not augmented" in done.stdout
    assert f"{place}/a.keras ends in a softmax: taken as probabilities" in done.stdout
    assert plan[-1] == f"export: python -m aekd_tf.experiments.export --run={place}/run"
    assert "warning" not in done.stderr
    content = results(place)
    assert (content["head"], content["metric"], content["classes"]) == (
        *("classes", "accuracy"),
        ["0", "1", "2"],
    )
    assert list(content["students"]) == ["alone", "average", "auto"]
    for figures in (*content["teachers"], *content["students"].values()):
        assert figures["parameters"] == 15
        assert figures["bytes"] > 1000
        assert figures["latency_ms"] > 0
    assert min(teacher["test_accuracy"] for teacher in content["teachers"]) > 0.6
    assert json.loads((place / "run" / "labels.json").read_text()) == ["0", "1", "2"]
    report = (place / "run" / "report.md").read_text()
    assert "| the teachers' majority vote |" in report
    assert "| 0 |" in report
    page = (place / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    saved = json.loads((place / "run" / "config.json").read_text())
    assert saved["config"]["data"] == f"{place}/table.npz"
    again = distill(place, f"--teachers={place}/a.keras,{place}/b.keras")
    assert "reusing 3 students" in again.stdout
    assert (
        results(place)["students"]["auto"]["test_accuracy"]
        == (content["students"]["auto"]["test_accuracy"])
    )
    exported = call("export", f"--run={place}/run", "--quantize=int8")
    assert exported.returncode == 0, exported.stderr
    assert "inputs are taken as they are stored" in exported.stdout
    np.savez(place / "table.npz", x=TABLE * 2, y=LABELS)
    done = distill(place, f"--teachers={place}/a.keras,{place}/b.keras")
    assert done.returncode == 2
    assert "holds a run with other data than" in done.stderr


def teachers_file(place, *entries):
    path = place / "teachers.json"
    path.write_text(json.dumps({"teachers": list(entries)}))
    return f"--teachers_file={path}"


def test_teachers_of_a_file(place):
    """A forest's outputs, a model of scaled inputs and one with another order of classes."""
    keras.utils.set_random_seed(3)
    dense = keras.models.load_model(place / "b.keras").layers[-1]
    other = model(3, scale=1.0)
    other.layers[-1].set_weights([w[..., [2, 0, 1]] for w in dense.get_weights()])
    doubled = model(3, scale=2.0)
    doubled.layers[-1].set_weights(dense.get_weights())
    other.save(place / "other.keras")
    doubled.save(place / "doubled.keras")
    shares = np.eye(3)[LABELS] * 0.7 + 0.1
    shares[::5] = shares[::5][:, ::-1]
    np.save(place / "forest.npy", shares)
    given = teachers_file(
        place,
        {"file": "b.keras"},
        {"file": "other.keras", "class_map": [1, 2, 0]},
        {"file": "doubled.keras", "preprocessing": {"scale": 0.5}, "name": "halved"},
        {"file": "forest.npy", "outputs": "probabilities"},
    )
    done = distill(place, given)
    assert done.returncode == 0, done.stderr
    content = results(place)
    assert [teacher["name"] for teacher in content["teachers"]] == [
        "b",
        "other",
        "halved",
        "forest",
    ]
    scores = [teacher["test_accuracy"] for teacher in content["teachers"]]
    assert scores[0] == scores[1] == scores[2]
    loaded = json.loads((place / "run" / "config.json").read_text())["config"]
    assert (loaded["augment"], loaded["cache_views"]) == ("none", 1)
    right = shares.argmax(1) == LABELS
    assert scores[3] == pytest.approx(right.mean(), abs=0.15)
    assert content["teachers"][3]["parameters"] is None
    assert "holds the outputs of a model of another library" in done.stdout
    # The outputs belong to the examples before they were split.
    from aekd_tf.data.own import load_own

    places = load_own(f"{place}/table.npz").places["test"]
    assert scores[3] == pytest.approx(right[places].mean())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file": "b.keras", "scale": 2}, "teacher 0: unknown key 'scale', give file, name,"),
        ({"name": "b"}, "teacher 0 has no file"),
        ({"file": "c.keras"}, "c.keras does not exist"),
        ({"file": "student.txt"}, "student.txt is neither a .keras nor a .npy file"),
        ({"file": "b.keras", "outputs": "odds"}, "outputs must be one of logits, probabilities"),
        ({"file": "b.keras", "preprocessing": 3}, "give {'scale': s, 'offset': o}, or"),
        ({"file": "b.keras", "preprocessing": "no_module:f"}, "is not there"),
        ({"file": "b.keras", "class_map": [0, 0, 1]}, "must name each of the teacher's classes"),
        ({"file": "short.npy"}, "give one row of outputs per example, 150 rows"),
        ({"file": "wide.npy"}, "has 4 outputs, the data 3"),
        ({"file": "wide.npy", "inputs": "a"}, "inputs is for models, wide.npy holds outputs"),
    ],
)
def test_bad_teachers_files(entry, message, place):
    np.save(place / "short.npy", np.zeros((3, 3)))
    np.save(place / "wide.npy", np.zeros((150, 4)))
    done = distill(place, teachers_file(place, entry, {"file": "a.keras"}))
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.rstrip().count("\n") == 0 or "outputs of" in done.stderr


@pytest.mark.parametrize(
    ("head", "labels", "endings", "loss", "metric"),
    [
        ("logit", (LABELS == 2).astype(int), (None, "sigmoid"), "binary_kl", "accuracy"),
        ("regression", LABELS / 2 + 0.25, (None, None), "mse", "rmse"),
    ],
)
def test_one_output(head, labels, endings, loss, metric, tmp_path):
    np.savez(tmp_path / "table.npz", x=TABLE, y=labels)
    for seed, name, ending in zip((1, 2), "ab", endings, strict=True):
        trained(tmp_path / f"{name}.keras", labels, 1, ending, seed)
    model(1, seed=9).save(tmp_path / "student.keras")
    given = [f"--teachers={tmp_path}/a.keras,{tmp_path}/b.keras", "--methods=auto"]
    done = distill(tmp_path, *given, "--learning_rate=0.01")
    assert done.returncode == 0, done.stderr
    assert f"loss {loss}" in done.stdout
    content = results(tmp_path)
    assert (content["head"], content["metric"]) == (head, metric)
    for figures in (*content["teachers"], *content["students"].values()):
        assert np.isfinite(figures[f"test_{metric}"])
    assert f"test {metric}" in done.stdout
    again = distill(tmp_path, *given, "--learning_rate=0.01")
    assert "reusing 1 students" in again.stdout, again.stderr
    exported = call("export", f"--run={tmp_path}/run")
    assert exported.returncode == 0, exported.stderr


def test_several_labels(tmp_path):
    labels = np.stack([LABELS > 0, LABELS > 1], 1).astype(int)
    np.savez(tmp_path / "table.npz", x=TABLE, y=labels)
    for seed, name in ((1, "a"), (2, "b"), (9, "student")):
        model(2, seed=seed).save(tmp_path / f"{name}.keras")
    done = distill(tmp_path, f"--teachers={tmp_path}/a.keras,{tmp_path}/b.keras")
    assert done.returncode == 0, done.stderr
    assert "2 independent labels (output 0, output 1), loss binary_kl" in done.stdout
    content = results(tmp_path)
    assert content["head"] == "labels"
    assert 0 <= content["students"]["auto"]["test_accuracy_auc"] <= 1


def test_a_folder_with_networks_of_the_package(tmp_path):
    photos.write(tmp_path / "photos", count=30)
    photos.spoil(str(tmp_path / "photos"))
    shared = f"--teachers_dir={tmp_path}/teachers"
    trained_first = call(
        *("teachers", f"--data={tmp_path}/photos", "--teachers=resnet8", "--ensemble_size=2"),
        *(f"--output_dir={tmp_path}/t", shared, *QUICK),
    )
    assert trained_first.returncode == 0, trained_first.stderr
    arguments = ["--teachers=resnet8", "--ensemble_size=2", shared, "--cache_views=1"]
    done = distill(tmp_path, *arguments, data="photos", student="resnet8")
    assert done.returncode == 0, done.stderr
    assert "reusing 2 teachers found on disk" in done.stdout
    assert "skipped 3 files that are no images" in done.stdout
    assert "training images are seen with augment=crop by up to 1 pixels" in done.stdout
    assert results(tmp_path)["classes"] == list(photos.CLASSES)
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    normalization = student.get_layer("normalization")
    assert 60 < float(np.mean(normalization.mean)) < 160, "its inputs are raw"
    photos.write(tmp_path / "photos", count=31, seed=5)
    done = distill(tmp_path, *arguments, f"--output_dir={tmp_path}/other", data="photos",
                   student="resnet8")  # fmt: skip
    assert done.returncode == 2
    assert "was trained with" in done.stderr


def test_cached_is_online_for_images_read_from_disk(tmp_path):
    photos.write(tmp_path / "photos", count=24, sizes=(20, 70))
    runs = []
    for views in (0, 1):
        done = call(
            *("distill", f"--data={tmp_path}/photos", "--student=imagenet_resnet18"),
            *("--teachers=imagenet_resnet18", "--ensemble_size=2", "--image_size=16", *QUICK),
            *("--methods=average", f"--cache_views={views}", "--view_seed=0"),
            *("--cache_dtype=float32", f"--teachers_dir={tmp_path}/teachers"),
            f"--output_dir={tmp_path}/run{views}",
        )
        assert done.returncode == 0, done.stderr
        assert "augment=resized_crop" in done.stdout
        path = tmp_path / f"run{views}" / "student.keras"
        runs.append(keras.models.load_model(path).get_weights())
    for cached, online in zip(*runs, strict=True):
        np.testing.assert_allclose(cached, online, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", ["logit", "labels", "regression"])
def test_saved_outputs_of_each_head(head, tmp_path):
    """Which are cached, as those of models are with `--cache_views`."""
    labels = {
        "logit": (LABELS == 2).astype(int),
        "labels": np.stack([LABELS > 0, LABELS > 1], 1).astype(int),
        "regression": LABELS / 2 + 0.25,
    }[head]
    np.savez(tmp_path / "table.npz", x=TABLE, y=labels)
    outputs = labels.reshape(150, -1)
    for seed, name in ((1, "a"), (9, "student")):
        model(outputs.shape[1], seed=seed).save(tmp_path / f"{name}.keras")
    np.save(tmp_path / "other.npy", outputs * 0.8 + 0.1)
    other = {"file": "other.npy"}
    if head != "regression":
        other["outputs"] = "probabilities"
    given = teachers_file(tmp_path, {"file": "a.keras"}, other)
    done = distill(tmp_path, given, "--learning_rate=0.01", "--methods=average")
    assert done.returncode == 0, done.stderr
    metric = results(tmp_path)["metric"]
    value = results(tmp_path)["teachers"][1][f"test_{metric}"]
    assert value == pytest.approx(1.0) if metric == "accuracy" else value < 0.1
    np.save(tmp_path / "other.npy", outputs * 0.7 + 0.1)
    again = distill(tmp_path, given, "--learning_rate=0.01", "--methods=average")
    assert again.returncode == 2
    assert "is of other teacher than" in again.stderr


def test_few_examples_hold_none_out_for_validation(tmp_path):
    np.savez(tmp_path / "table.npz", x=TABLE[:15], y=LABELS[:15])
    for seed, name in ((1, "a"), (2, "b"), (9, "student")):
        model(3, seed=seed).save(tmp_path / f"{name}.keras")
    files = f"--teachers={tmp_path}/a.keras,{tmp_path}/b.keras"
    done = distill(tmp_path, files, "--methods=average")
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)["students"]["average"]["validation_accuracy"] is None
    assert "reusing 1 students" in distill(tmp_path, files, "--methods=average").stdout
    for arguments, message in (
        (["--methods=stacked"], "stacked chooses weights on validation examples"),
        (["--methods=fitnets", "--hint_weight=cv"], "hint_weight=cv chooses on validation"),
    ):
        done = distill(tmp_path, files, *arguments, f"--output_dir={tmp_path}/other",
                       "--hint_first_epoch=1")  # fmt: skip
        assert done.returncode == 2
        assert message in done.stderr


def test_a_changed_student_file_is_no_finished_run(place):
    files = f"--teachers={place}/a.keras,{place}/b.keras"
    assert distill(place, files, "--methods=alone").returncode == 0
    model(3, seed=4).save(place / "student.keras")
    done = distill(place, files, "--methods=alone")
    assert done.returncode == 2
    assert f"other weights than {place}/student.keras has now" in done.stderr


def test_changed_data_are_not_exported(place):
    files = f"--teachers={place}/a.keras,{place}/b.keras"
    assert distill(place, files, "--methods=alone").returncode == 0
    np.savez(place / "table.npz", x=TABLE[::-1] * 3, y=LABELS)
    done = call("export", f"--run={place}/run")
    assert done.returncode == 2
    assert "has changed since the run" in done.stderr


def test_hints_of_teachers_that_are_adapted(place):
    files = f"--teachers={place}/a.keras,{place}/b.keras"
    hints = ["--methods=fitnets", "--hint_weight=1", "--hint_first_epoch=1"]
    done = distill(place, files, *hints, "--hint_layers=nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    np.save(place / "p.npy", np.eye(3)[LABELS])
    done = distill(place, teachers_file(place, {"file": "p.npy"}, {"file": "a.keras"}), *hints)
    assert done.returncode == 2
    assert "saved outputs of a teacher have no feature maps: leave hints out" in done.stderr


@pytest.mark.parametrize("method", ["ca_mkd", "average_outputs", "cross_entropy"])
def test_methods_for_classes_alone(method, tmp_path):
    np.savez(tmp_path / "table.npz", x=TABLE, y=LABELS / 2 + 0.25)
    for seed, name in ((1, "a"), (2, "b"), (9, "student")):
        model(1, seed=seed).save(tmp_path / f"{name}.keras")
    files = f"--teachers={tmp_path}/a.keras,{tmp_path}/b.keras"
    done = distill(tmp_path, files, f"--methods={method}")
    assert done.returncode == 2
    assert f"method {method} is for classes, but labels are regression" in done.stderr


def test_teachers_alone_on_values(tmp_path):
    np.savez(tmp_path / "images.npz", x=rng.normal(size=(60, 8, 8)), y=rng.normal(size=60))
    done = call(
        *("teachers", f"--data={tmp_path}/images.npz", "--teachers=resnet8", "--ensemble_size=2"),
        *(f"--output_dir={tmp_path}/t", "--teacher_learning_rate=0.001", *QUICK),
    )
    assert done.returncode == 0, done.stderr
    assert "%" not in done.stdout.splitlines()[-1]


def test_weak_teachers_are_named(place):
    model(3, seed=5, scale=0.0).save(place / "weak.keras")
    done = distill(place, f"--teachers={place}/weak.keras,{place}/b.keras")
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("warning")]
    assert line.startswith("warning: teacher weak has ")
    assert "does it expect inputs that are scaled" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data is empty: give a folder of images"),
        (["--data=x"], "teachers is empty: name networks"),
        (["--data=x", "--teachers=resnet8"], "student is empty"),
        (["--data=x", "--teachers=resnet8", "--student=mine"], "unknown network 'mine'"),
        (["--data=x", "--teachers=a.keras", "--student=resnet8"], "x is no folder"),
        (["--head=odds"], "unknown head 'odds'"),
        (["--augment=spin"], "unknown augment 'spin'"),
        (["--distillation_loss=binary_kl"], "distillation_loss is binary_kl, but labels are 3"),
        (["--train_examples=5"], "train_examples is for sets with a name"),
        (["--augment=crop"], r"augment=crop is for images, not inputs (4,)"),
        (["--teachers=a.npy"], "teachers names saved outputs (.npy): give them in a --teachers_f"),
        (["--teachers_file=x.json"], "teachers and teachers_file are given"),
    ],
)
def test_misuse(arguments, message, place):
    if arguments and not arguments[0].startswith("--data"):
        files = [f"--data={place}/table.npz", f"--teachers={place}/b.keras,{place}/a.keras"]
        arguments = [*files, f"--student={place}/student.keras", *arguments]
    done = call("distill", *arguments, f"--output_dir={place}/run")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_student_of_a_file_must_fit(place):
    model(4).save(place / "wide.keras")
    model(3, "softmax").save(place / "soft.keras")
    model(3, inputs=5).save(place / "long.keras")
    files = f"--teachers={place}/a.keras,{place}/b.keras"
    for name, message in (
        ("wide", "gives outputs (1, 4) for one example, table requires 3"),
        ("soft", "ends in a softmax: give one that ends in logits"),
        ("long", "does not take table's inputs (4,)"),
    ):
        done = distill(place, files, student=f"{name}.keras")
        assert done.returncode == 2
        assert message in done.stderr


def test_defaults():
    config = parse("distill", ["--data=~/photos", "--teachers=resnet8", "--student=resnet8"])
    assert isinstance(config, Config)
    assert config.methods == ("alone", "average", "auto")
    assert (config.epochs, config.output_dir) == (20, "runs/distill")
    assert config.data.startswith("/")
    assert config.dataset == "photos"
    assert "teachers_file" not in parse("digits", []).recorded()
