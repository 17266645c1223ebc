"""The command line: what is asked for, and what bad input gets."""

import dataclasses
import json
import subprocess
import sys

import keras
import pytest

from aekd_tf import data, models, names
from aekd_tf.experiments.command import consistency, presets
from aekd_tf.experiments.command.errors import UserError
from aekd_tf.experiments.command.experiment_flags import define
from aekd_tf.experiments.run import students, teachers
from aekd_tf.experiments.run.dataset import check_steps, for_choice
from aekd_tf.experiments.run.methods import METHODS
from aekd_tf.experiments.run.weighting import make
from tools.commands import main, parse

TOP_K = ["--cache_views=1", "--cache_top_k=3"]


def refused(capsys, experiment, arguments):
    """The one line of stderr of a command that must fail."""
    assert main(experiment, arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, lines
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=svhn"], "unknown dataset 'svhn': choose one of cifar10, cifar100"),
        (["--student=vgg99"], "unknown network 'vgg99': choose one of resnet8"),
        (["--teachers=resnet56,vgg99"], "unknown network 'vgg99'"),
        (["--teachers=resnet56,"], "teachers has an empty entry"),
        (["--weighting=loud"], "unknown weighting 'loud': choose one of aekd, average"),
        (["--solver=magic"], "unknown solver 'magic': choose one of smo, projected"),
        (["--preset=slow"], "unknown preset 'slow': choose one of quick, paper"),
        (["--batch_gradient=sum"], "unknown batch_gradient 'sum': choose one of mean, full"),
        (["--tolerance=0"], "C=0.0 is outside (0, 1]"),
        (["-C=-0.5"], "C=-0.5 is outside (0, 1]"),
        (["--tolerance=1.5"], "C=1.5 is outside (0, 1]"),
        (["--tolerance=nan"], "C=nan is outside (0, 1]"),
        (["--tolerance=0.1", "--ensemble_size=5"], "C = 1/M = 0.2, which is the plain average"),
        (["--ensemble_size=0"], "ensemble_size is 0: give a whole number, at least 1"),
        (["--ensemble_size=3", "--teachers=resnet8,resnet14"], "ensemble_size is 3 but"),
        (["--ensemble_size=two"], "--ensemble_size=two"),
        (["--temperature=0"], "temperature is 0.0: give a finite number above 0"),
        (["--temperature=nan"], "temperature is nan"),
        (["--kd_weight=nan"], "kd_weight is nan: give a finite number at least 0"),
        (["--kd_weight=-1"], "kd_weight is -1.0"),
        (["--hint_weight=-1"], "hint_weight is -1.0"),
        (["--hint_weight=some"], "hint_weight is some: give a number, or cv to choose it"),
        (["--hint_layers=stage2,stage3"], "hint_layers names 2 layers: give one for all, or the"),
        (["--hint_layers="], "hint_layers names 0 layers"),
        (["--cache_views=-1"], "cache_views is -1"),
        (["--cache_dtype=int8"], "unknown cache_dtype 'int8': choose one of float16, float32"),
        (["--cache_hints", "--cache_views=2"], "cache_hints stores feature maps but no method"),
        (["--cache_hints", "--cache_views=0"], "cache_hints needs a cache: give --cache_views"),
        (["--cache_top_k=0"], "cache_top_k is 0"),
        (["--cache_top_k=3", "--cache_views=0"], "cache_top_k needs a cache"),
        (["--hint_pooling=0"], "hint_pooling is 0"),
        (["--mixed_precision=int8"], "unknown mixed_precision 'int8': choose one of none, bfl"),
        (["--steps_per_execution=0"], "steps_per_execution is 0"),
        (["--view_seed=-1"], "view_seed is -1"),
        (["--cache_dir="], "cache_dir is empty"),
        (["--epochs=1", "--hint_weight=1"], "hint_first_epoch is 2 but there are 1 epochs"),
        (["--jit_compile", "--solver=cvxopt", "--weighting=average", "--methods=aekd"], "jit_com"),
        (["--hint_first_epoch=0"], "hint_first_epoch is 0"),
        (["--methods=aekd,magic"], "unknown method 'magic': choose one of alone, kd, average"),
        (["--methods=aekd,aekd"], "names a method twice"),
        (["--methods=fitnets", "--hint_weight=0"], "methods names fitnets but hint_weight is 0"),
        (["--teacher_learning_rate=0"], "teacher_learning_rate is 0.0"),
        (["--student_loss_weight=inf"], "student_loss_weight is inf"),
        (["--learning_rate=0"], "learning_rate is 0.0"),
        (["--epochs=0"], "epochs is 0"),
        (["--teacher_epochs=-3"], "teacher_epochs is -3"),
        (["--batch_size=0"], "batch_size is 0"),
        (["--train_examples=0"], "train_examples is 0"),
        (["--seed=-1"], "seed is -1"),
        (["--seed=1000000"], "seed is 1000000: give a number from 0 to 999999"),
        (["--output_dir="], "output_dir is empty"),
        (["--teachers=a.keras,./a.keras"], "names the same .keras file twice"),
        (["--jit_compile", "--solver=cvxopt"], "jit_compile cannot compile solver=cvxopt"),
        (["--epoch=3"], "epoch"),
        (["quick"], "unexpected argument 'quick'"),
        (["--epochs=1.5"], "--epochs=1.5"),
        (["--batch_size="], "--batch_size="),
        (["--jit_compile=perhaps"], "--jit_compile=perhaps"),
        (["--dataset="], "unknown dataset ''"),
        (["--teachers="], "teachers has an empty entry"),
        (["--methods="], "methods is empty"),
        (["--kd_weight=inf"], "kd_weight is inf"),
        (["--temperature=-4"], "temperature is -4.0"),
        (["--learning_rate=nan"], "learning_rate is nan"),
        (
            ["--validation_examples=-1"],
            "validation_examples is -1: give a whole number, at least 0",
        ),
        (["--methods=stacked"], "stacked chooses weights on validation images but validation_exam"),
        (["--weighting=stacked"], "give --validation_examples, or leave stacked out"),
        (["--view_seed=1000000"], "view_seed is 1000000: give a number from 0 to 999999"),
        (["--checkpoint_every=soon"], "checkpoint_every is soon"),
        (["--checkpoint_every=0"], "checkpoint_every is 0"),
        (["--teachers_dir="], "teachers_dir is empty"),
        (["--hint_layers=a,b", "--ensemble_size=1", "--hint_weight=nan"], "hint_weight is nan"),
        (["--strategy=galaxy"], "unknown strategy 'galaxy': choose one of none, mirrored"),
        (["--strategy=mirrored", "--jit_compile"], "jit_compile cannot compile a step of strategy"),
        (["--strategy=mirrored", "--steps_per_execution=5"], "strategy=mirrored cannot do: leave"),
        (["--strategy=tpu", "--jit_compile"], "a TPU compiles every step: leave it out"),
        (["--strategy=tpu", "--mixed_precision=float16"], "a TPU computes in bfloat16"),
        (["--strategy=tpu", "--solver=libsvm"], "solver=libsvm leaves the graph for Python"),
        (["--strategy=multi_worker", "--checkpoint_every=10min"], "give a number of steps"),
        (["--strategy=multi_worker"], "TF_CONFIG, which is not set: see docs/distributed.md"),
        (["--dataset=digits", "--train_examples=99999"], "digits has 1437 training images"),
        (["--dataset=digits", "--validation_examples=1437"], "digits has"),
        (["--dataset=digits", "--teachers=no.keras"], "teacher file no.keras does not exist"),
        (["--dataset=digits", "--steps_per_execution=7"], "steps_per_execution is 7 but an epoch"),
        (["--dataset=digits", "--hint_weight=1", "--hint_layers=x"], "x"),
    ],
)
def test_bad_inputs(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    dataset = [a for a in arguments if a.startswith("--dataset=")]
    experiment = {"--dataset=digits": "digits", "--dataset=imagenette": "imagenet"}
    asked = experiment.get(*dataset, "cifar") if dataset else "cifar"
    assert message in refused(capsys, asked, ["--output_dir=run", *arguments])
    assert not list(tmp_path.iterdir())


def test_missing_teacher_file(capsys, tmp_path):
    line = refused(capsys, "digits", ["--teachers=no.keras", f"--output_dir={tmp_path}/run"])
    assert "teacher file no.keras does not exist: give a trained .keras file" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("experiment", ["digits", "teachers"])
def test_more_examples_than_there_are(capsys, tmp_path, experiment):
    arguments = ["--dataset=digits", "--train_examples=99999", f"--output_dir={tmp_path}/run"]
    assert "digits has 1437 training images" in refused(capsys, experiment, arguments)
    assert not (tmp_path / "run").exists()


def test_output_directory_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    line = refused(capsys, "digits", [f"--output_dir={tmp_path}/file/run"])
    assert "cannot be written" in line
    assert "another --output_dir" in line


def test_output_directory_of_another_run(capsys, tmp_path):
    recorded = parse("digits", ["--tolerance=0.5"]).recorded()
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"config": recorded}))
    line = refused(capsys, "digits", [f"--output_dir={tmp_path}", "-C=0.4"])
    assert "holds a run with tolerance=0.5, this one asks for tolerance=0.4" in line
    path.write_text(path.read_text()[:30])
    assert "cannot be read" in refused(capsys, "digits", [f"--output_dir={tmp_path}"])
    path.write_text('{"config": []}')
    assert "has no configuration" in refused(capsys, "digits", [f"--output_dir={tmp_path}"])


@pytest.fixture
def bad_teacher(tmp_path):
    def write(classes=10, shape=(8, 8, 1), keep=None):
        path = tmp_path / "teacher.keras"
        models.create("resnet8", classes, shape).save(path)
        path.write_bytes(path.read_bytes()[:keep])
        return path

    return write


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 7}, "gives outputs (1, 7) for one image, digits has 10 classes"),
        ({"shape": (32, 32, 3)}, "does not take digits's images (8, 8, 1)"),
        ({"keep": 5000}, "cannot be read"),
        ({"keep": 0}, "cannot be read"),
    ],
)
def test_bad_teacher_files(capsys, tmp_path, bad_teacher, options, message):
    path = bad_teacher(**options)
    output = tmp_path / "run"
    line = refused(capsys, "digits", [f"--teachers={path}", f"--output_dir={output}"])
    assert message in line
    assert str(path) in line
    assert not (output / "config.json").exists()


def test_truncated_teacher_of_an_earlier_run(capsys, tmp_path, bad_teacher):
    arguments = ["--ensemble_size=1", "--teachers=resnet8", f"--teachers_dir={tmp_path}"]
    arguments += [f"--output_dir={tmp_path}/run"]
    teacher = teachers.plan(parse("digits", arguments), data.load("digits"))[0]
    path = bad_teacher(keep=3000).rename(teacher.path)
    settings = tmp_path / "digits_resnet8_0.json"
    settings.write_text(json.dumps({**teacher.settings, "epochs": 99}))
    assert "was trained with epochs=99, this run asks for epochs=8" in refused(
        capsys, "digits", arguments
    )
    settings.write_text(json.dumps(teacher.settings))
    line = refused(capsys, "digits", arguments)
    assert str(path) in line
    assert "delete it to have it retrained" in line
    settings.unlink()
    assert "to have the teacher retrained" in refused(capsys, "digits", arguments)


def test_absent_data_without_network(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("aekd_tf.data.tfds._reachable", lambda host: False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    arguments = [f"--data_dir={tmp_path}/none", f"--output_dir={tmp_path}/run"]
    line = refused(capsys, "cifar", arguments)
    assert "cifar10 is not in" in line
    assert "--data_dir" in line
    assert "--dataset=digits" in line
    assert not (tmp_path / "run" / "config.json").exists()


def test_paper_preset_is_section_4_1():
    parsed = parse("cifar", ["--ensemble_size=10"])
    assert (parsed.student, parsed.networks()) == ("resnet20", ["resnet56"] * 10)
    assert (parsed.epochs, parsed.teacher_epochs, parsed.batch_size) == (350, 240, 64)
    assert (parsed.temperature, parsed.kd_weight, parsed.tolerance) == (4, 0.9, 0.6)
    assert (parsed.learning_rate, parsed.train_examples) == (0.05, None)
    assert parsed.validation_examples == 0
    assert parse("cifar", ["--preset=quick"]).validation_examples is None
    assert parse("teachers", []).validation_examples == 0
    assert parse("teachers", ["--dataset=digits"]).validation_examples is None
    assert parse("imagenet", []).validation_examples is None
    assert parse("digits", ["--preset=paper"]).validation_examples is None


def test_flags_override_presets():
    arguments = ["--preset=quick", "--epochs=2", "-C", "0.7", "--teachers=resnet8,a.keras"]
    parsed = parse("cifar", arguments)
    assert (parsed.epochs, parsed.tolerance, parsed.ensemble_size) == (2, 0.7, 2)
    assert parsed.networks() == ["resnet8", "a.keras"]
    assert parse("cifar", ["--ensemble_size=1"]).tolerance == 0.6


def test_help_shows_our_flags_alone_with_defaults(capsys):
    assert main("cifar", ["--help"]) == 0
    shown = capsys.readouterr().out
    experiment = presets.Experiment("cifar", "cifar10", ("cifar10", "cifar100"), "paper")
    shown_names = define(experiment).names
    for name in shown_names:
        assert f"  --{name}" in shown
    assert shown.count("(default") == len(shown_names)
    assert "paper: resnet20" in shown
    for foreign in ("logtostderr", "tfds", "pdb", "helpfull"):
        assert foreign not in shown


@pytest.mark.parametrize("experiment", ["cifar", "digits", "teachers"])
def test_help_and_errors_do_not_load_tensorflow(experiment):
    code = (
        "import sys; from aekd_tf.experiments.command.main import main; "
        f"from aekd_tf.experiments.{experiment} import COMMAND; "
        "assert main(COMMAND, ['--help']) == 0; "
        "assert main(COMMAND, ['--epochs=0']) == 2; "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_names_are_the_modules_own():
    assert isinstance(names.SOLVERS, tuple)
    assert keras.saving.get_registered_object("aekd_tf>AdaptiveWeighting") is not None


def parsed(experiment, *arguments):
    return parse(experiment, arguments)


def test_recipe_of_the_paper():
    resnet = parsed("cifar")
    assert (resnet.epochs, resnet.learning_rate, resnet.teacher_epochs) == (350, 0.05, 240)
    mobilenet = parsed("cifar", "--student=mobilenetv2")
    assert (mobilenet.epochs, mobilenet.learning_rate, mobilenet.batch_size) == (240, 0.01, 64)
    imagenet = parsed("imagenet")
    assert (imagenet.student, imagenet.teachers) == ("imagenet_resnet18", ("imagenet_resnet50",))
    assert (imagenet.image_size, imagenet.batch_size, imagenet.epochs) == (224, 256, 100)
    milestones = presets.recipe("cifar10", "resnet20", teacher=False)["milestones"]
    assert [round(350 * share) for share in milestones] == [150, 200, 250, 300]


def test_methods_follow_the_hint_weight():
    assert parsed("cifar").methods == ("alone", "average", "aekd")
    assert parsed("cifar", "--weighting=average").methods == ("alone", "average")
    hinted = parsed("cifar", "--hint_weight=cv")
    assert hinted.methods == ("alone", "average", "aekd", "fitnets", "aekd_hints")
    planned = [student.name for student in students.plan(hinted)]
    candidates = [f"fitnets_beta{b}" for b in ("0.1", "1", "10", "100", "1000")]
    assert planned[3:9] == [*candidates, "fitnets"]
    assert len(planned) == 3 + 2 * 6
    fixed = students.plan(parsed("cifar", "--hint_weight=10"))
    assert [s.hint_weight for s in fixed] == [None, None, None, 10.0, 10.0]


def test_hint_weight_of_the_papers_preset():
    asked = "--methods=alone,fitnets"
    assert parsed("cifar", asked).hint_weight == "cv"
    assert parsed("cifar").hint_weight == 0
    assert [parsed("cifar", asked, f"--hint_weight={b}").retrains for b in ("cv", "1")] == [1, 0]
    # With images that are held out anyway nothing is trained anew.
    held_out = parsed("cifar", asked, "--validation_examples=5000")
    assert held_out.hint_weight == "cv"
    assert not held_out.retrains
    assert [s.name for s in students.plan(held_out)][-1] == "fitnets_beta1000"
    assert not parsed("cifar", "--methods=alone", "--hint_weight=cv").retrains


def test_a_student_is_trained_anew_with_the_beta_that_its_candidates_choose():
    asked = students.plan(parsed("cifar", "--methods=fitnets"))
    *candidates, last = asked
    figures = dict.fromkeys((s.name for s in asked), None)
    assert not students.is_finished(last, asked, figures)
    for student, score in zip(candidates, (0.2, 0.6, 0.9, 0.4, 0.1), strict=True):
        assert students.settled(last, asked, figures).hint_weight is None
        figures[student.name] = {"validation_accuracy": score, "hint_weight": student.hint_weight}
    assert students.settled(last, asked, figures).hint_weight == 10
    figures["fitnets"] = {"validation_accuracy": None, "hint_weight": 1.0}
    assert not students.is_finished(last, asked, figures)  # another beta is chosen now
    figures["fitnets"]["hint_weight"] = 10.0
    assert students.is_finished(last, asked, figures)
    best, content = students.chosen(asked, figures)["fitnets"]
    assert best.name == "fitnets"
    assert content["validation_accuracy"] is None
    assert content["cross_validation"]["10"] == 0.9


def test_figures_are_null_only_without_validation_images(tmp_path):
    (tmp_path / "students").mkdir()
    figures = {
        **dict.fromkeys(students.held_out_figures("accuracy")),
        "test_accuracy": 0.9,
        "seconds": 1.0,
    }
    figures |= {"teacher_weights": None, "hint_teacher_weights": None, "teachers": []}
    for name in ("fitnets", "fitnets_beta1"):
        (tmp_path / "students" / f"{name}.keras").write_bytes(b"")
        (tmp_path / "students" / f"{name}.json").write_text(
            json.dumps({**figures, "hint_weight": 1.0})
        )
    config = parsed("cifar", "--methods=fitnets", f"--output_dir={tmp_path}")
    by_name = {student.name: student for student in students.plan(config)}
    assert students.finished(config, by_name["fitnets"])["test_accuracy"] == 0.9
    with pytest.raises(UserError, match="no valid validation_accuracy"):
        students.finished(config, by_name["fitnets_beta1"])
    other = parsed("cifar", "--validation_examples=9", f"--output_dir={tmp_path}")
    with pytest.raises(UserError, match="no valid validation_accuracy"):
        students.finished(other, by_name["fitnets"])


def test_steps_per_execution_fit_the_candidates_too():
    given = data.load("digits", train_examples=100, validation_examples=0)
    flags = ("--validation_examples=0", "--hint_weight=cv", "--batch_size=20")
    config = parsed("digits", *flags, "--steps_per_execution=5", "--methods=fitnets")
    choice = for_choice(config, given)
    assert [len(s) for s in (choice.train, choice.validation)] == [90, 10]
    check_steps(config, given, choice)  # 5 steps of 20 images each
    config = dataclasses.replace(config, batch_size=10)
    check_steps(config, given)
    with pytest.raises(UserError, match="but an epoch has 10 or 9 steps: give one of 1"):
        check_steps(config, given, choice)
    with pytest.raises(UserError, match="there are 1: give more --train_examples"):
        for_choice(config, data.load("digits", train_examples=1, validation_examples=0))


def test_cross_validation_chooses_on_validation_data():
    arguments = ["--hint_weight=cv", "--methods=fitnets", "--validation_examples=5000"]
    asked = students.plan(parsed("cifar", *arguments))
    figures = {
        s.name: {"validation_accuracy": score, "test_accuracy": 1 - score, "hint_weight": b}
        for s, score, b in zip(
            asked, (0.2, 0.6, 0.9, 0.4, 0.1), consistency.HINT_WEIGHTS, strict=True
        )
    }
    best, content = students.chosen(asked, figures)["fitnets"]
    assert best.name == "fitnets_beta10"
    assert content["hint_weight"] == 10
    assert content["cross_validation"] == {"0.1": 0.2, "1": 0.6, "10": 0.9, "100": 0.4, "1000": 0.1}


def test_quantization_aware_students_go_on_from_the_others():
    config = parsed("cifar", "--methods=average,fitnets", "--hint_weight=cv", "--quantize_aware")
    planned = students.plan(config)
    assert [s.name for s in planned if s.quantize_aware] == [
        "average_quantize_aware",
        "fitnets_quantize_aware",
    ]
    last = planned[-1]
    assert last.quantize_aware
    assert not last.is_candidate
    figures = {
        s.name: {"validation_accuracy": 1 / (1 + (s.hint_weight or 0)), "hint_weight": 0.1}
        for s in planned
    }
    assert students.settled(last, planned, figures).hint_weight == 0.1
    assert students.delivered("fitnets", planned, figures).name == "fitnets"
    assert list(students.chosen(planned, figures)) == [
        *("average", "average_quantize_aware", "fitnets", "fitnets_quantize_aware")
    ]
    second = students.second_training(config)
    assert (second.epochs, second.hint_first_epoch) == (35, 1)
    assert second.learning_rate == pytest.approx(0.005)
    assert students.second_training(parsed("digits", "--epochs=3", "--quantize_aware")).epochs == 1


def test_what_quantization_aware_students_cannot_do(capsys):
    line = refused(capsys, "digits", ["--weight_bits=4"])
    assert "give --quantize_aware" in line
    line = refused(capsys, "digits", ["--quantize_aware", "--weight_bits=1"])
    assert "weight_bits is 1: give a whole number from 2 to 8" in line
    line = refused(capsys, "digits", ["--quantize_aware", "--strategy=multi_worker"])
    assert "use strategy=mirrored" in line


def test_solver_matters_only_where_a_qp_is_solved():
    arguments = ["--jit_compile", "--solver=cvxopt", "--methods=average"]
    assert parsed("cifar", *arguments).solver == "cvxopt"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--anchor=1.5"], "anchor is 1.5: give a number from 0"),
        (["--anchor_to=student"], "unknown anchor_to 'student': choose one of labels, vote"),
        (["--anchor_temperature=0"], "anchor_temperature is 0"),
        (["--anchor=1", "--methods=average"], "settings of the methods anchored and aekd"),
        (["--per_example", "--methods=auto"], "settings of the methods anchored and aekd"),
        (["--weighting=anchored", *TOP_K], "anchor_temperature is 1: give both the same"),
        (["--weighting=ca_mkd", *TOP_K], "ca_mkd reads all of them at 1"),
    ],
)
def test_settings_of_the_anchor(capsys, flags, message):
    assert message in refused(capsys, "digits", flags)


def test_the_anchor_is_that_of_the_method_anchored_else_of_aekd():
    def anchor(*flags):
        config = parsed("digits", *flags)
        return {name: make(config, METHODS[name]).anchor for name in ("aekd", "anchored")}

    assert anchor("--methods=aekd,anchored") == {"aekd": 0, "anchored": 1}
    assert anchor("--methods=aekd,anchored", "--anchor=0.5") == {"aekd": 0, "anchored": 0.5}
    assert anchor("--methods=aekd", "--anchor=0.5")["aekd"] == 0.5
    assert parsed("digits").methods == ("alone", "average", "aekd", "auto")
    assert parsed("digits", "--preset=paper").methods == ("alone", "average", "aekd")
    for name in names.WEIGHTINGS:
        assert parsed("digits", f"--weighting={name}").methods[-1] == name
