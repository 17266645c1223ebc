"""Closed sets of names that flags and code share, without any import."""

from __future__ import annotations

IN_GRAPH_SOLVERS = ("smo", "projected")
REFERENCE_SOLVERS = ("cvxopt", "libsvm")
SOLVERS = IN_GRAPH_SOLVERS + REFERENCE_SOLVERS
BATCH_GRADIENTS = ("mean", "full")
GRADIENT_SPACES = ("logits", "parameters")
WEIGHTINGS = (
    "aekd",
    "average",
    "average_outputs",
    "auto",
    "stacked",
    "anchored",
    "random",
    "mgda",
    "cross_entropy",
    "ca_mkd",
    "ebkd",
    "mtkd",
)
AVERAGES = ("losses", "outputs")
ANCHORS = ("labels", "vote")
HELD_OUT_ANCHORS = (*ANCHORS, "agreed")
VOTES = ("majority", "mean")
TEACHER_OUTPUTS = ("logits", "probabilities")
CACHE_DTYPES = ("float16", "float32")
DATASETS_IN_MEMORY = ("digits", "mnist1d", "cifar10", "cifar100")
HEADS = ("classes", "labels", "regression")
HEAD_TITLES = {
    "classes": "classes",
    "labels": "independent labels",
    "regression": "regression",
}
DISTILLATION_LOSSES = ("kl", "binary_kl", "mse", "cosine", "dkd", "averaged_outputs")
HINT_LOSSES = ("mse", "attention")
AS_OUTPUTS = "as_outputs"
EXPORT_ENDINGS = {"keras": ".keras", "saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
EXPORT_FORMATS = tuple(EXPORT_ENDINGS)
QUANTIZATIONS = ("dynamic", "float16", "int8")
DATA_HEADS = ("auto", "classes", "logit", "labels", "regression")
AUGMENTATIONS = ("auto", "none", "crop", "crop_flip", "resized_crop")
