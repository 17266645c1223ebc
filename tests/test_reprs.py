"""What `repr` says: the class, and the settings that are not the default."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import aekd_tf
from aekd_tf import (
    AdaptiveWeighting,
    CachedTeachers,
    DistillationLoss,
    DistillationTensorBoard,
    EnsembleDistiller,
    FixedWeighting,
    Hints,
    QPSolution,
    Signals,
    Smoothed,
    TeacherAdapter,
    TeacherCache,
    TeacherEnsemble,
    Views,
    Weighting,
    data,
    losses,
    weightings,
)
from aekd_tf.data.folder import FolderSplit
from aekd_tf.monitoring.reprs import repr_of
from aekd_tf.names import DISTILLATION_LOSSES, WEIGHTINGS
from tools.networks import classifier
from tools.weightings import CASES

NAMES = {
    **{name: getattr(aekd_tf, name) for name in aekd_tf.__all__},
    **{name: getattr(weightings, name) for name in weightings.__all__},
    "CosineDecay": keras.optimizers.schedules.CosineDecay,
    "Variable": keras.Variable,
}
DECAY = "CosineDecay(initial_learning_rate=1.0, decay_steps=9)"
HALF = "CosineDecay(initial_learning_rate=0.5, decay_steps=9)"

# Each is what it evaluates to.
EXPRESSIONS = [
    "AdaptiveWeighting(tolerance=0.6)",
    "AdaptiveWeighting(tolerance=0.3, batch_gradient='full', normalize=True)",
    "AdaptiveWeighting(tolerance=0.6, solver='cvxopt')",
    "AdaptiveWeighting(tolerance=0.6, anchor=1.0)",
    "AdaptiveWeighting(tolerance=0.6, anchor=0.5, anchor_to='vote', per_example=True)",
    "AdaptiveWeighting(tolerance=Variable(0.6))",
    f"AdaptiveWeighting(tolerance={DECAY}, anchor={DECAY})",
    "UniformWeighting(average='outputs')",
    "CrossEntropyWeighting(per_example=True)",
    "RandomWeighting(seed=3)",
    "FixedWeighting(values=[0.25, 0.75])",
    "FixedWeighting(values=[[0.25, 0.75], [1.0, 0.0]])",
    f"Smoothed(weighting=AdaptiveWeighting(tolerance=0.5), decay={HALF})",
    "StackedWeighting(tolerance=0.7, anchor_to='agreed', per_class=False)",
    "StackedWeighting(values=[0.5, 0.5])",
    "AutoWeighting()",
    "AutoWeighting(tolerance=0.3)",
    "AutoWeighting(chosen=StackedWeighting(values=[0.5, 0.5]), reason='why')",
    "losses.KL()",
    "losses.DKD(target_weight=2.0)",
    "Views(count=5)",
    "Views(count=5, dtype='float32', top_k=3)",
    "CachedTeachers(count=2, feature_shapes=[[4, 4, 3], [4, 4, 5]], temperature=4.0)",
    "Hints()",
    "Hints(student='a', teachers=['b', 'c'], first_epoch=2, weighting=CAMKDWeighting())",
    "Hints(loss='attention', activation=None)",
]


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_evaluates_to_an_equal_object(text):
    made = eval(text, NAMES)
    assert repr(made) == text.removeprefix("losses.")
    again = eval("losses." * text.startswith("losses.") + repr(made), NAMES)
    assert repr(again) == repr(made)
    if hasattr(made, "get_config"):
        assert again.get_config() == made.get_config()
    else:
        assert again == made


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_weightings_by_name(name):
    weighting = weightings.get(name)
    assert repr(weighting).startswith(f"{type(weighting).__name__}(")
    assert weighting.description == repr(weighting)
    assert eval(repr(weighting), NAMES).get_config() == weighting.get_config()


def test_losses_by_name():
    names = ["KL()", "BinaryKL()", "MSE()", "Cosine()", "DKD()", "AveragedOutputs()"]
    assert [repr(losses.get(name)) for name in DISTILLATION_LOSSES] == names
    assert repr(losses.get(keras.losses.huber)) == "OwnLoss(loss=huber)"
    assert repr(losses.get(keras.losses.CosineSimilarity(reduction=None))) == (
        "OwnLoss(loss=CosineSimilarity(reduction=None))"
    )


def test_large_arrays_show_their_shape():
    weighting = FixedWeighting(np.full([10, 4], 0.25))
    assert repr(weighting) == "FixedWeighting(values=<float64 [10, 4]>)"
    adapter = TeacherAdapter(classifier(1), class_map=list(range(100)), name="a")
    assert repr(adapter).endswith(", class_map=[0, 1, 2, ... 100 in all])")


def test_an_adapter():
    layer = keras.layers.Rescaling(2.0, name="scale")
    adapter = TeacherAdapter(
        classifier(1), preprocessing=layer, outputs="probabilities", output=0, inputs="image"
    )
    assert repr(adapter) == (
        "TeacherAdapter(model=<Sequential 'classifier_1'>, preprocessing=<Rescaling 'scale'>, "
        "outputs='probabilities', output=0, inputs='image')"
    )
    function = TeacherAdapter(classifier(1), preprocessing=keras.ops.square)
    assert repr(function).endswith("preprocessing=square)")


def test_ensembles_and_distillers(teachers):
    ensemble = TeacherEnsemble(teachers, "mean")
    assert repr(ensemble) == "TeacherEnsemble(teachers=<3 models>, vote='mean', head='classes')"
    start = "EnsembleDistiller(student=<classifier_9>, teachers=<3 teachers>, weighting="
    distiller = EnsembleDistiller(classifier(9), ensemble)
    assert repr(distiller) == f"{start}AutoWeighting(), temperature=4.0)"
    distiller = EnsembleDistiller(
        classifier(9),
        CachedTeachers(3),
        weighting="average",
        temperature=keras.Variable(2.0),
        kd_weight=0.5,
        distillation_loss="mse",
    )
    rest = "temperature=Variable(2.0), kd_weight=0.5, distillation_loss=MSE())"
    assert repr(distiller) == f"{start}UniformWeighting(), {rest}"
    distiller.kd_weight = 0.9
    assert "kd_weight" not in repr(distiller)


def test_a_cache(tmp_path, teachers, toy_data, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = toy_data[0]
    cache = TeacherCache("cache", (x,))
    start = "TeacherCache(directory='cache', dataset=<48 examples>, views=Views(count=1), teachers="
    assert repr(cache) == f"{start}0)"
    cache.fill(teachers, progress=False)
    assert repr(cache) == f"{start}3)"
    stream = tf.data.Dataset.from_tensor_slices(x).filter(lambda row: True)
    cache = TeacherCache("cache", stream, name="rows")  # nobody has counted them
    assert "dataset=<examples>, " in repr(cache)
    assert repr(cache).endswith("name='rows', teachers=0)")


def test_signals_and_solutions_show_shapes():
    signals = Signals(live=np.ones(3, bool), losses=np.ones((3, 2)), temperature=4.0)
    expected = "live=<bool [3]>, losses=<float32 [3, 2]>, temperature=4.0, head='classes'"
    assert repr(signals) == f"Signals({expected})"
    solution = QPSolution(tf.ones([5, 3]), tf.zeros([5]), tf.zeros([5], tf.int32))
    arrays = "weights=<float32 [5, 3]>, gap=<float32 [5]>, iterations=<int32 [5]>"
    assert repr(solution) == f"QPSolution({arrays})"
    weighting, seen = AdaptiveWeighting(tolerance=keras.Variable(0.5)), []

    @tf.function(input_signature=[tf.TensorSpec([None, 3]), tf.TensorSpec(None)])
    def traced(weights, gap):
        seen.extend([repr(QPSolution(weights, gap, 3)), repr(weighting)])

    traced(tf.ones([2, 3]), tf.ones([2]))
    assert seen[0] == "QPSolution(weights=<float32 [?, 3]>, gap=<float32 [...]>, iterations=3)"
    assert seen[1] == "AdaptiveWeighting(tolerance=Variable(<float32 []>))"


def test_data_sets():
    digits = data.load("digits", train_examples=100)
    assert repr(digits.train) == "Split(images=<uint8 [100, 8, 8, 1]>, labels=<int64 [100]>)"
    assert repr(digits).startswith("Dataset(name='digits', num_classes=10, train=Split(")
    assert repr(digits).endswith("mean=(4.884,), std=(6.017,), crop_padding=1, flip=False)")
    split = FolderSplit(("a", "b"), ("", ""), np.array([0, 1]), size=8)
    assert repr(split) == "FolderSplit(<2 examples>, size=8)"
    assert repr(DistillationTensorBoard("logs")) == "DistillationTensorBoard(log_dir='logs')"


class Hostile:
    """An object that nothing can be done with."""

    def __repr__(self):
        raise RuntimeError("no")

    def __eq__(self, other):
        raise RuntimeError("no")

    __hash__ = None


class Own(Weighting):
    """A user's weighting, which keeps its arguments under other names."""

    def __init__(self, power, exponent=2, *, lost=None, hostile=None, text="", **others):
        self._power, self.exponent, self.hostile, self.text = power, exponent, hostile, text

    @property
    def lost(self):
        raise RuntimeError("no")

    def weights(self, signals):
        return tf.ones_like(signals.live, tf.float32)

    def get_config(self):
        return {"power": self._power}


class Bare(DistillationLoss):
    """A user's loss, without arguments."""


class Inherits(AdaptiveWeighting):
    """A user's weighting, whose constructor has other arguments than its base."""

    def __init__(self, share=0.5):
        super().__init__(tolerance=share)


def test_classes_of_the_user():
    assert repr(Own(3)) == "Own(power=3)"
    assert repr(Own(3, np.float32(0.5))) == "Own(power=3, exponent=0.5)"
    assert (
        repr(Own(np.eye(9), hostile=Hostile())) == "Own(power=<float64 [9, 9]>, hostile=<Hostile>)"
    )
    assert repr(Own(Hostile(), text="long" * 99)).endswith("longlongl...')")
    assert repr(Own(Own, hostile=object.__init__)) == "Own(power=Own, hostile=object.__init__)"
    assert len(repr(Own(list(range(10**5)), hostile=["text" * 99] * 99))) < 600
    assert repr(Bare()) == "Bare()"
    assert repr(Inherits()) == "Inherits(tolerance=0.5)"


@pytest.mark.parametrize(
    "kind",
    [
        *(AdaptiveWeighting, weightings.AutoWeighting, Smoothed, EnsembleDistiller, TeacherAdapter),
        *(TeacherCache, TeacherEnsemble, Signals, Views, Hints),
        *(data.Dataset, data.Split, FolderSplit),
    ],
)
def test_an_object_that_is_not_ready_has_one(kind):
    assert repr(kind.__new__(kind)).startswith(f"{kind.__name__}(")


@pytest.mark.parametrize("name", CASES)
def test_is_one_short_line(name):
    found = repr(CASES[name].make())
    assert "\n" not in found
    assert len(found) < 150


def test_settings_that_change_are_shown_as_given_and_cost_no_operation():
    schedule = keras.optimizers.schedules.CosineDecay(1.0, 9)
    student, *teachers = [
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(5, name="a"),
                keras.layers.Dense(4, name="b"),
                keras.layers.Dense(3),
            ]
        )
        for _ in range(3)
    ]
    made = EnsembleDistiller(
        student,
        teachers,
        weighting=weightings.AutoWeighting(tolerance=keras.Variable(0.7)),
        hints=["a", "b"],
        hint_weight=[1.0, schedule],
        kd_weight=schedule,
    )
    text, graph = repr(made), tf.Graph()
    assert f"hint_weight=[1.0, {DECAY}]" in text
    assert f"kd_weight={DECAY}" in text
    assert "weighting=AutoWeighting(tolerance=Variable(0.7))" in text
    with graph.as_default():
        traced = repr(made)
    assert traced == text.replace("Variable(0.7)", "Variable(<float32 []>)")
    assert graph.get_operations() == []


def test_a_loss_of_the_user_s_is_no_default():
    own = type("KL", (DistillationLoss,), {"call": lambda self, t, s: tf.reduce_mean(t - s, -1)})
    made = EnsembleDistiller(classifier(9), CachedTeachers(2), distillation_loss=own())
    assert repr(made).endswith("distillation_loss=KL())")


class Held:
    """Holds what it is given, and shows it."""

    def __init__(self, value=None, other=None):
        self.value, self.other = value, other

    __repr__ = repr_of


class Delegating(Held):
    """Passes what it does not have to what it holds, before `__init__`, too."""

    def __getattr__(self, name):
        return getattr(self.value, name)


def test_nothing_is_too_deep_too_long_or_in_a_circle():
    circle = Held()
    circle.value = circle.other = [circle, circle]
    assert repr(circle) == "Held(value=[<Held>, <Held>], other=[<Held>, <Held>])"
    deep = []
    for _ in range(60):
        deep = [deep, deep]
    assert len(repr(Held(deep))) < 10_000
    weighting = AdaptiveWeighting()
    for _ in range(300):
        weighting = Smoothed(weighting)
    assert len(repr(weighting)) < 10_000
    assert repr(Held([0] * 10**7, b"0" * 10**8)) == (
        "Held(value=[0, 0, 0, ... 10000000 in all], other=<bytes>)"
    )


def test_what_raises_is_shown_by_its_class():
    assert repr(Delegating.__new__(Delegating)) == "<Delegating>"
    assert repr(Delegating(Smoothed(AdaptiveWeighting(), decay=0.7))) == (
        "Delegating(value=Smoothed(weighting=AdaptiveWeighting(tolerance=0.6), decay=0.7))"
    )
    broken = type("Broken", (), {"shape": property(lambda self: 1 / 0), "dtype": 3})()
    assert repr(QPSolution(broken, 1, 2)) == "QPSolution(weights=<Broken>, gap=1, iterations=2)"
    loud = type("Loud", (Held,), {"_shown": property(lambda self: 1 / 0)})
    assert repr(loud(1)) == "Loud(value=1)"
