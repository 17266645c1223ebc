"""Whole runs on little data, through the commands a user types."""

import contextlib
import io
import json
import re
import shutil

import keras
import numpy as np
import pytest

from aekd_tf import data
from aekd_tf.experiments.run import students, teachers
from aekd_tf.teachers.identity import teacher_digest
from aekd_tf.training.optimizer import SGDWithL2
from tools import forked, small_command, tiny_imagenet
from tools.commands import SMALL, Done, call
from tools.networks import classifier, elementwise
from tools.small_runs import small_runs

pytestmark = pytest.mark.xdist_group("experiments")  # one run serves them all


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    with small_runs():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on digits: its directory and what it printed."""
    directory = tmp_path_factory.mktemp("digits") / "run"
    started = small_command.start(
        "digits", "--ensemble_size=2", f"--output_dir={directory}", *SMALL
    )
    output, errors = started.communicate()
    process = Done(started.returncode, output, errors)
    assert process.returncode == 0, process.stderr
    return directory, process


def test_a_plan_of_many_teachers_stays_on_a_line(tmp_path):
    names = [f"resnet8_{m}" for m in range(25)]
    files = [teachers.Teacher(n, str(tmp_path / n), "resnet8", {"epochs": 30}) for n in names]
    (line,) = teachers.describe(files, 1000)
    shown = "resnet8_0, resnet8_1, ..., resnet8_24"
    assert line == f"training 25 teachers, 30000 steps each: {shown}"
    assert len(line) <= 80
    (line,) = teachers.describe(files[:4], 1)
    assert line.endswith(": resnet8_0, resnet8_1, resnet8_2, resnet8_3")


def test_run_is_clean_and_says_its_plan(finished):
    _, process = finished
    lines = process.stdout.splitlines()
    assert lines[0] == "digits: 200 training, 237 validation, 360 test images"
    assert lines[1] == "training 2 teachers, 8 steps each: resnet8_0, resnet8_1"
    assert lines[2] == "training 4 students resnet8, 8 steps each: alone, average, aekd, auto"
    # Nothing but progress on stderr: no banner, no warning.
    shown = [line for line in process.stderr.replace("\r", "\n").splitlines() if line.strip()]
    assert all(re.match(r"\[\d/6\] |outputs of digits_resnet8_", line) for line in shown), shown


def test_models_that_were_trained_just_now_are_not_read_again(tmp_path, monkeypatch):
    def load(path, *args, **kwargs):
        raise AssertionError(path)

    monkeypatch.setattr(keras.models, "load_model", load)
    arguments = ["--ensemble_size=2", "--methods=average", f"--output_dir={tmp_path}"]
    process = call("digits", *arguments, *SMALL)
    assert process.returncode == 0, process.stderr
    monkeypatch.undo()
    for index in range(2):
        manifest = tmp_path / "teachers" / "outputs" / f"digits_resnet8_{index}.json"
        recorded = json.loads(manifest.read_text())
        model = keras.models.load_model(tmp_path / "teachers" / f"digits_resnet8_{index}.keras")
        assert recorded["teacher"] == teacher_digest(model), "as if it had been read"


def test_table_shows_everyone(finished):
    _, process = finished
    for row in (
        "teacher resnet8_0",
        "teacher resnet8_1",
        "ensemble, majority vote",
        "student alone",
        "student, AVER",
        "student, AE-KD",
        "student, auto",
    ):
        assert row in process.stdout


def test_results_and_models(finished):
    directory, _ = finished
    results = json.loads((directory / "results.json").read_text())
    assert [t["name"] for t in results["teachers"]] == ["resnet8_0", "resnet8_1"]
    assert set(results["ensemble"]) == {"majority_vote", "mean_probability"}
    assert list(results["students"]) == ["alone", "average", "aekd", "auto"]
    assert results["students"]["alone"]["teacher_weights"] is None
    assert results["students"]["average"]["teacher_weights"] == [0.5, 0.5]
    assert sum(results["students"]["aekd"]["teacher_weights"]) == pytest.approx(1)
    student = keras.models.load_model(directory / "student.keras")
    digits = data.load("digits")
    logits = student.predict(data.evaluation_pipeline(digits, digits.test), verbose=0)
    accuracy = float((logits.argmax(-1) == digits.test.labels).mean())
    assert accuracy == results["students"]["auto"]["test_accuracy"]
    content = json.loads((directory / "config.json").read_text())
    assert content["config"]["ensemble_size"] == 2
    assert content["places"]["teachers_dir"] == str((directory / "teachers").absolute())
    assert content["choices"]["auto"].startswith("auto is stacked, on the labels")
    assert (directory / "students" / "auto.png").exists()
    for run in ("teacher_resnet8_0", *(f"student_{name}" for name in results["students"])):
        assert list((directory / "logs" / run / "train").glob("events.*"))
    assert not list(directory.rglob("*.tmp"))


def test_second_run_reuses_everything(finished):
    directory, first = finished
    before = (directory / "results.json").read_text()
    process = call("digits", "--ensemble_size=2", f"--output_dir={directory}", *SMALL)
    assert process.returncode == 0
    assert "reusing 2 teachers found on disk" in process.stdout
    assert "reusing 4 students found on disk" in process.stdout
    assert process.stderr == ""
    assert (directory / "results.json").read_text() == before
    assert process.stdout.split("\n\n")[1:] == first.stdout.split("\n\n")[1:]


def test_same_seed_same_result_and_missing_parts_are_remade(finished, tmp_path):
    """One teacher and one student deleted: they come back bit for bit."""
    directory, _ = finished
    teacher = directory / "teachers" / "digits_resnet8_1.keras"
    student = directory / "students" / "aekd.keras"
    weights = [keras.models.load_model(path).get_weights() for path in (teacher, student)]
    teacher.unlink()
    student.unlink()
    process = call("digits", "--ensemble_size=2", f"--output_dir={directory}", *SMALL)
    assert "training 1 teachers" in process.stdout
    assert "training 1 students" in process.stdout
    for path, expected in zip((teacher, student), weights, strict=True):
        for found, weight in zip(
            keras.models.load_model(path).get_weights(), expected, strict=True
        ):
            np.testing.assert_array_equal(found, weight)


def test_trained_models_of_ones_own_teach_a_quantization_aware_student(finished, tmp_path):
    directory, _ = finished
    own = directory / "student.keras"
    process = call(
        "digits",
        f"--teachers={own},resnet8",
        f"--teachers_dir={directory}/teachers",
        f"--output_dir={tmp_path}",
        "--methods=average",
        "--quantize_aware",
        *SMALL,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [t["name"] for t in results["teachers"]] == ["student", "resnet8_1"]
    assert list(results["students"]) == ["average", "average_quantize_aware"]
    plan = process.stdout.splitlines()
    assert "training 1 students resnet8, 4 steps each: average_quantize_aware" in plan
    assert "  then quantization-aware" in process.stdout
    assert keras.models.load_model(tmp_path / "student.keras").quantize_aware_bits == 8
    trained = keras.models.load_model(tmp_path / "students" / "average.keras")
    assert not hasattr(trained, "quantize_aware_bits")
    done = call("export", f"--run={tmp_path}", "--quantize=int8", "--integer_io")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((tmp_path / "export" / "student_int8.tflite.json").read_text())
    assert report["agreement"] >= 0.99
    assert report["float_layers"] == []


def test_teachers_call(finished, tmp_path):
    directory, _ = finished
    arguments = ["--dataset=digits", "--teachers=resnet8", "--ensemble_size=2"]
    arguments += [f"--teachers_dir={directory}/teachers", f"--output_dir={tmp_path}"]
    process = call("teachers", *arguments, *SMALL)
    assert process.returncode == 0, process.stderr
    assert "reusing 2 teachers" in process.stdout
    assert "resnet8_1" in process.stdout
    assert "majority vote" in process.stdout


def test_students_of_other_teachers_are_refused(finished, tmp_path):
    directory, _ = finished
    own = tmp_path / "own.keras"
    arguments = [f"--teachers={own}", f"--output_dir={tmp_path}/run", *SMALL, "--cache_views=0"]
    arguments += ["--methods=aekd"]
    shutil.copy(directory / "teachers" / "digits_resnet8_0.keras", own)
    assert call("digits", *arguments).returncode == 0
    shutil.copy(directory / "teachers" / "digits_resnet8_1.keras", own)
    process = call("digits", *arguments)
    assert process.returncode == 2
    assert "was distilled from other teachers than" in process.stderr
    (tmp_path / "run" / "students" / "aekd.json").write_text("{}")
    process = call("digits", *arguments)
    assert process.returncode == 2
    assert "incomplete: delete it" in process.stderr


def test_jit_compile_and_models_load_anywhere(finished, tmp_path):
    directory, _ = finished
    teachers = f"--teachers_dir={directory}/teachers"
    arguments = ["--ensemble_size=2", teachers, f"--output_dir={tmp_path}", "--jit_compile"]
    arguments += ["--methods=auto"]
    process = call("digits", *arguments, *SMALL)
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr
    files = [tmp_path / "student.keras", directory / "teachers" / "digits_resnet8_0.keras"]
    forked.output(
        "import keras, sys\n"
        f"for path in {[str(file) for file in files]}: keras.models.load_model(path)\n"
        "assert 'aekd_tf' not in sys.modules"
    )


def test_another_configuration_is_refused(finished):
    directory, _ = finished
    process = call("digits", "--ensemble_size=2", "-C=0.7", f"--output_dir={directory}", *SMALL)
    assert process.returncode == 2
    assert process.stdout == ""
    assert process.stderr.count("\n") == 1
    assert "holds a run with tolerance=0.6" in process.stderr


def test_weight_decay_is_part_of_the_gradient(toy_data):
    """Against the recursion written out: v = 0.9 v - lr (g + l2 w), Nesterov."""
    model = classifier(1)
    optimizer = SGDWithL2(0.1, momentum=0.9, nesterov=True, l2=0.01)
    variable = model.trainable_variables[0]
    weight = variable.numpy()
    velocity = np.zeros_like(weight)
    gradient = np.full_like(weight, 0.3)
    for _ in range(3):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        total = gradient + 0.01 * weight
        velocity = 0.9 * velocity - 0.1 * total
        weight = weight + 0.9 * velocity - 0.1 * total
    np.testing.assert_allclose(variable.numpy(), weight, atol=1e-6)
    config = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(config).l2 == 0.01


def test_hints_with_cross_validation_resume_candidate_by_candidate(finished, tmp_path, monkeypatch):
    assert students.HINT_WEIGHTS == (0.1, 1, 10, 100, 1000)
    monkeypatch.setattr(students, "HINT_WEIGHTS", (0.1, 10))
    directory, _ = finished
    arguments = ["--ensemble_size=2", f"--teachers_dir={directory}/teachers", *SMALL]
    arguments += [f"--output_dir={tmp_path}", "--methods=kd,aekd_hints", "--hint_weight=cv"]
    process = call("digits", *arguments)
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    chosen = results["students"]["aekd_hints"]
    scores = chosen["cross_validation"]
    assert list(scores) == ["0.1", "10"]
    assert scores[f"{chosen['hint_weight']:g}"] == max(scores.values())
    assert chosen["validation_accuracy"] == max(scores.values())
    assert sum(chosen["hint_teacher_weights"]) == pytest.approx(1, abs=1e-5)
    assert results["students"]["kd"]["teacher_weights"] == [1.0]
    assert "AE-KD* beta=" in process.stdout
    for candidate in scores:
        run = tmp_path / "logs" / f"student_aekd_hints_beta{candidate}"
        assert list(run.glob("events.*")), "no HParams"
    names = [weight.path for weight in keras.models.load_model(tmp_path / "student.keras").weights]
    assert not any("regressor" in name for name in names)
    (tmp_path / "students" / "aekd_hints_beta10.json").unlink()
    again = call("digits", *arguments)
    assert "reusing 2 students" in again.stdout
    assert "training 1 students resnet8, 8 steps each: aekd_hints_beta10" in again.stdout
    assert (
        json.loads((tmp_path / "results.json").read_text())["students"]["kd"]
        == (results["students"]["kd"])
    )


def test_cached_run_is_the_online_run(tmp_path):
    own = [tmp_path / f"own_{seed}.keras" for seed in (1, 2)]
    for seed, path in enumerate(own, start=1):
        elementwise(seed).save(path)
    arguments = [f"--teachers={','.join(map(str, own))}", *SMALL]
    arguments += [f"--cache_dir={tmp_path}/cache", "--methods=aekd"]
    online = call(
        "digits",
        *arguments,
        "--cache_views=0",
        "--view_seed=0",
        "--steps_per_execution=2",
        f"--output_dir={tmp_path}/online",
    )
    cached = ["--cache_views=2", "--cache_dtype=float32", f"--output_dir={tmp_path}/cached"]
    process = call("digits", *arguments, *cached)
    assert process.returncode == 0, process.stderr
    assert "teachers' outputs: 2 x 0.0 MB" in process.stdout
    weights = [
        keras.models.load_model(tmp_path / run / "student.keras").get_weights()
        for run in ("online", "cached")
    ]
    assert online.returncode == 0
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_array_equal(found, expected)
    file = tmp_path / "cache" / "digits_own_1.npy"
    file.write_bytes(file.read_bytes()[:-9])
    process = call("digits", *arguments, *cached[:2], f"--output_dir={tmp_path}/again")
    assert process.returncode == 2
    assert f"error: cache file {file} cannot be read" in process.stderr


def test_hints_precision_and_executions(finished, tmp_path):
    directory, _ = finished
    arguments = ["--ensemble_size=2", f"--teachers_dir={directory}/teachers", *SMALL]
    arguments += [
        f"--cache_dir={tmp_path}/cache",
        "--methods=kd,average_outputs,fitnets,aekd_hints",
    ]
    arguments += ["--hint_weight=1", "--cache_hints", "--hint_pooling=2", "--cache_top_k=4"]
    process = call(
        "digits", *arguments, "--mixed_precision=bfloat16", f"--output_dir={tmp_path}/out"
    )
    assert process.returncode == 0, process.stderr
    assert "float16, the 4 largest logits)" in process.stdout
    student = keras.models.load_model(tmp_path / "out" / "student.keras")
    assert "bfloat16" in {layer.compute_dtype for layer in student.layers}
    assert {weight.dtype for weight in student.weights} == {"float32"}
    process = call(
        "digits", *arguments, "--steps_per_execution=3", f"--output_dir={tmp_path}/other"
    )
    assert process.returncode == 2
    assert "steps_per_execution is 3 but an epoch has 4 steps: give one of 1, 2, 4" in (
        process.stderr
    )


def test_hint_layers_that_do_not_exist_or_align(finished, tmp_path):
    directory, _ = finished
    arguments = ["--ensemble_size=2", f"--teachers_dir={directory}/teachers", *SMALL]
    arguments += ["--methods=fitnets", "--hint_weight=1"]
    process = call("digits", *arguments, "--hint_layers=stage9", f"--output_dir={tmp_path}/a")
    assert process.returncode == 2
    assert not (tmp_path / "a").exists(), "found before anything is trained or written"
    assert "no layer 'stage9'; its layers are stem_conv" in process.stderr
    assert "Traceback" not in process.stderr
    process = call(
        "digits", *arguments, "--hint_layers=stage3,stage1,stage1", f"--output_dir={tmp_path}/b"
    )
    assert process.returncode == 2
    assert "cannot be aligned" in process.stderr


def test_cifar_with_an_ensemble_of_several_architectures(tmp_path):
    """Section 4.1's last paragraph in small: other networks, a MobileNetV2 student, hints."""
    with contextlib.redirect_stderr(io.StringIO()):
        tiny_imagenet.prepare_cifar10(tmp_path / "data")
    process = call(
        "cifar",
        "--preset=quick",
        "--teachers=resnet8,vgg8",
        "--student=mobilenetv2",
        "--methods=aekd_hints",
        "--hint_weight=1",
        "--hint_first_epoch=1",
        "--epochs=1",
        "--teacher_epochs=1",
        "--train_examples=80",
        "--validation_examples=40",
        "--batch_size=40",
        f"--data_dir={tmp_path}/data",
        f"--output_dir={tmp_path}/run",
    )
    assert process.returncode == 0, process.stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [t["name"] for t in results["teachers"]] == ["resnet8_0", "vgg8_1"]
    assert list(results["students"]) == ["aekd_hints"]
    assert len(results["students"]["aekd_hints"]["hint_teacher_weights"]) == 2


def test_imagenet_on_awkward_images(tmp_path):
    with contextlib.redirect_stderr(io.StringIO()):
        tiny_imagenet.prepare(tmp_path / "data")
    process = call(
        "imagenet",
        "--preset=quick",
        "--dataset=tiny_images",
        "--teachers=imagenet_resnet18",
        "--ensemble_size=2",
        "--epochs=1",
        "--teacher_epochs=1",
        "--train_examples=32",
        "--batch_size=16",
        "--image_size=32",
        "--methods=average,auto",
        "--cache_views=1",
        f"--data_dir={tmp_path}/data",
        f"--output_dir={tmp_path}/run",
    )
    assert process.returncode == 0, process.stderr
    assert re.search(r"outputs: 2 x 0\.0 MB .* 32 examples, .* seconds to comp", process.stdout)
    assert "tiny_images: 32 training, 6 validation, 24 test images" in process.stdout
    assert "top-5" in process.stdout
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for figures in (*results["teachers"], *results["students"].values()):
        assert figures["test_accuracy"] <= figures["test_accuracy_top5"] <= 1
    assert "weighting auto is stacked" in process.stdout
    assert results["ensemble"]["majority_vote"] <= results["ensemble"]["majority_vote_top5"]
