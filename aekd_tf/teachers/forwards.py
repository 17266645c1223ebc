"""Forward passes of frozen teachers, traced once per architecture."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from aekd_tf.keras_private import flatten_layers, in_xla
from aekd_tf.teachers.adapter import TeacherAdapter
from aekd_tf.teachers.architecture import architecture
from aekd_tf.teachers.folding import folded_batch_norm
from aekd_tf.terms.capture import with_features


class Forwards:
    """Runs teachers in inference mode; those of one architecture share a traced graph.

    The graph takes handles of a teacher's variables as an argument and reads them at every call,
    so that weights that are loaded later count. A large ensemble is then traced and optimized
    in little more time than one teacher. The results are the same, bit for bit.

    Teachers whose configuration does not tell what they compute run a graph of their own
    (`architecture`), and so do all on a TPU and outside a strategy's replicas.
    """

    def __init__(self) -> None:
        self._numbers: dict[Any, int] = {}  # of architectures
        self._kinds: Any = weakref.WeakKeyDictionary()  # model -> number or None
        self._traced: dict[Any, Any] = {}
        # Outside graphs, model -> what to call, and with which handles.
        self._eager: Any = weakref.WeakKeyDictionary()

    @property
    def architectures(self) -> int:
        """How many there are, each with a model that its graphs keep alive."""
        return len(self._numbers)

    def clear(self) -> None:
        """Drops the graphs and their models; what runs next is traced anew."""
        self._traced.clear()
        self._eager.clear()

    def kind(self, teacher: keras.Model) -> int | None:
        """Returns a number that teachers share if they can share a graph; None if none can."""
        if teacher not in self._kinds:
            found = architecture(teacher)
            number = self._numbers.setdefault(found, len(self._numbers))
            self._kinds[teacher] = None if found is None else number
        return self._kinds[teacher]

    @tf.autograph.experimental.do_not_convert
    def shared(
        self,
        teacher: keras.Model,
        inputs: Any,
        layers: Sequence[keras.layers.Layer] = (),
        raw: bool = False,
    ) -> tuple[Any, list[tf.Tensor]]:
        """Returns `own` by the graph that teachers of this architecture share, if they can."""
        tensors = all(tf.is_tensor(part) for part in keras.tree.flatten(inputs))
        if self.kind(teacher) is None or not tensors or not _on_one_device():
            return own(teacher, inputs, layers, raw)
        function, handles = self._found(teacher, inputs, layers, raw)
        if function is None:
            return own(teacher, inputs, layers, raw)
        if tf.executing_eagerly():
            return function(handles, inputs)
        size = keras.tree.flatten(inputs)[0].shape[0]
        return keras.tree.map_structure(lambda part: _sized(part, size), function(handles, inputs))

    def _found(
        self, teacher: keras.Model, inputs: Any, layers: Sequence[keras.layers.Layer], raw: bool
    ) -> tuple[Any, Any]:
        """Returns the shared function, and the handles that it takes; outside graphs found once."""
        if not tf.executing_eagerly():
            return self._function(teacher, inputs, layers, raw)
        parts = [(part.shape[1:], part.dtype) for part in keras.tree.flatten(inputs)]
        key = (raw, *map(id, layers), *((tuple(shape), dtype) for shape, dtype in parts))
        known = self._eager.setdefault(teacher, {})
        if key not in known:
            known[key] = self._function(teacher, inputs, layers, raw)
        return known[key]

    def _function(
        self, teacher: keras.Model, inputs: Any, layers: Sequence[keras.layers.Layer], raw: bool
    ) -> tuple[Any, Any]:
        places = [_index(flatten_layers(teacher), layer) for layer in layers]
        handles, device = _handles(teacher)
        specs = keras.tree.map_structure(_any_batch, inputs)
        key = (self.kind(teacher), tuple(places), raw, str(specs), device)
        if key not in self._traced:
            self._traced[key] = self._trace(teacher, layers, raw, handles, device, specs)
        return self._traced[key], handles

    def _trace(
        self,
        template: keras.Model,
        layers: Sequence[keras.layers.Layer],
        raw: bool,
        handles: Any,
        device: str | None,
        specs: Any,
    ) -> Any:
        """Returns a function of handles and inputs; None if it needs more than these."""

        def forward(handles: Any, inputs: Any) -> Any:
            with tf.device(device):
                each = tf.unstack(handles) if device else handles
                pairs = zip(template.variables, each, strict=True)
                values = [(variable, _read(variable, handle)) for variable, handle in pairs]
            with keras.StatelessScope(state_mapping=values):
                return own(template, inputs, layers, raw)

        of_handles = tf.nest.map_structure(lambda h: tf.TensorSpec(h.shape, h.dtype), handles)
        function = tf.function(
            forward,
            input_signature=(of_handles, specs),
            autograph=False,
            # Inlined, the step would have one copy per teacher again, to be optimized each.
            experimental_attributes={"_noinline": True},
        )
        captured = function.get_concrete_function().captured_inputs
        return None if captured else function


def own(
    teacher: keras.Model,
    inputs: Any,
    layers: Sequence[keras.layers.Layer] = (),
    raw: bool = False,
) -> tuple[Any, list[tf.Tensor]]:
    """Returns a teacher's outputs in inference mode and those of its layers.

    With `raw`, those of an adapter are what the adapted model gives.
    """
    with folded_batch_norm(teacher, keep=layers):
        if raw and isinstance(teacher, TeacherAdapter):
            return teacher.model_outputs(inputs, training=False), []
        return with_features(teacher, layers, inputs, training=False)


def _on_one_device() -> bool:
    """Returns whether variables have handles here: not on a TPU, nor outside the replicas."""
    on_tpu = isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
    return not on_tpu and not tf.distribute.in_cross_replica_context()


def _index(layers: Sequence[Any], wanted: Any) -> int:
    return next(index for index, layer in enumerate(layers) if layer is wanted)


def _handles(teacher: keras.Model) -> tuple[Any, str | None]:
    """Returns handles of a teacher's variables, and their device if they are one tensor.

    One tensor is much the fastest to trace. XLA cannot look into it, and devices other than CPUs
    are given one argument per variable, as TensorFlow itself does.
    """
    handles = [variable.handle for variable in teacher.variables]
    devices = {handle.device for handle in handles}
    device = next(iter(devices), "")
    concrete = all(hasattr(handle, "numpy") for handle in handles)
    if len(devices) != 1 or "CPU" not in device or not concrete or in_xla():
        return handles, None
    with tf.init_scope(), tf.device(device):
        return tf.stack(handles), device


def _read(variable: keras.Variable, handle: tf.Tensor) -> tf.Tensor:
    value = tf.raw_ops.ReadVariableOp(resource=handle, dtype=variable.dtype)
    return tf.ensure_shape(value, variable.shape)


def _any_batch(part: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec((None, *part.shape[1:]), part.dtype)


def _sized(part: tf.Tensor, size: int | None) -> tf.Tensor:
    part.set_shape((size, *part.shape[1:]))
    return part
