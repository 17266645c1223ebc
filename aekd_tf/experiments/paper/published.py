"""The paper's Tables 1 to 3, transcribed: test accuracy in %, by row and method.

Du et al., "Agree to Disagree: Adaptive Ensemble Knowledge Distillation in Gradient Space",
NeurIPS 2020. Its Figures 2 and 3 are printed without numbers.
"""

from __future__ import annotations

from aekd_tf.experiments.run.methods import METHODS as METHODS_TABLE

METHODS = ("ensemble", "average", "aekd", "fitnets", "aekd_hints")
TITLES = {"ensemble": "Ens", **{name: method.title for name, method in METHODS_TABLE.items()}}

Published = dict[tuple[str, str], dict[int, tuple[float, ...]]]

# (data set, student) -> the student alone.
ALONE = {
    ("cifar10", "resnet20"): 91.7,
    ("cifar10", "mobilenetv2"): 75.97,
    ("cifar100", "resnet20"): 69.06,
    ("cifar100", "mobilenetv2"): 64.60,
}

# (data set, student) -> ensemble size -> Ens, AVER, AE-KD, FitNets, AE-KD*; resnet56 teachers.
TABLE_1: Published = {
    ("cifar10", "resnet20"): {
        1: (93.94, 91.84, 91.84, 91.86, 91.86),
        5: (95.27, 91.94, 92.50, 91.96, 92.58),
        10: (95.58, 91.96, 92.54, 92.09, 92.67),
        15: (95.75, 92.01, 92.55, 92.18, 92.89),
        20: (95.74, 92.22, 92.70, 92.31, 92.93),
        25: (95.78, 92.50, 92.74, 92.50, 93.01),
    },
    ("cifar10", "mobilenetv2"): {
        1: (93.94, 75.77, 75.77, 77.07, 77.07),
        5: (95.27, 76.11, 77.32, 78.19, 81.16),
        10: (95.58, 77.47, 79.27, 78.30, 81.83),
        15: (95.75, 77.96, 80.17, 78.51, 82.14),
        20: (95.74, 78.89, 80.41, 78.94, 82.24),
        25: (95.78, 79.25, 80.70, 80.60, 82.56),
    },
    ("cifar100", "resnet20"): {
        1: (72.41, 70.49, 70.49, 70.55, 70.55),
        5: (77.42, 70.78, 71.37, 70.97, 71.95),
        10: (79.15, 70.84, 71.40, 71.26, 71.99),
        15: (79.55, 71.21, 71.48, 71.49, 72.12),
        20: (79.83, 71.47, 71.66, 71.58, 72.21),
        25: (80.01, 71.57, 71.84, 71.70, 72.36),
    },
    ("cifar100", "mobilenetv2"): {
        1: (72.41, 66.44, 66.44, 66.84, 66.84),
        5: (77.42, 66.82, 67.27, 66.98, 67.63),
        10: (79.15, 66.90, 67.47, 67.05, 67.71),
        15: (79.55, 67.03, 67.59, 67.13, 67.92),
        20: (79.83, 67.09, 67.84, 67.17, 68.14),
        25: (80.01, 67.19, 67.93, 67.45, 68.20),
    },
}
# The same with resnet56 as student, too.
TABLE_2: Published = {
    ("cifar10", "resnet56"): {
        1: (93.94, 92.58, 92.58, 92.49, 92.49),
        5: (95.27, 92.67, 92.88, 92.64, 93.47),
        10: (95.58, 92.82, 93.23, 92.67, 93.64),
        15: (95.75, 92.89, 93.71, 92.77, 93.66),
        20: (95.74, 92.87, 93.75, 92.90, 93.76),
        25: (95.78, 93.73, 94.20, 93.13, 93.88),
    },
    ("cifar100", "resnet56"): {
        1: (72.41, 73.58, 73.58, 73.61, 73.61),
        5: (77.42, 74.39, 74.88, 74.58, 75.02),
        10: (79.15, 74.66, 74.96, 74.69, 75.16),
        15: (79.55, 74.74, 75.14, 74.75, 75.37),
        20: (79.83, 74.92, 75.45, 75.04, 75.53),
        25: (80.01, 75.04, 75.62, 75.10, 75.69),
    },
}
# ImageNet, ResNet50 teachers and ResNet18 student: top-1 of Ens, AVER, AE-KD. (Top-5: 92.50, 93.60,
# 93.85; 88.21, 88.39, 88.47; 88.21, 88.21, 88.93.)
TABLE_3: Published = {
    ("imagenet2012", "imagenet_resnet18"): {
        1: (75.67, 67.81, 67.81),
        3: (76.85, 67.85, 68.28),
        5: (77.52, 68.18, 69.14),
    },
}
TABLES = {1: TABLE_1, 2: TABLE_2, 3: TABLE_3}
# Section 4.1: teachers resnet110, WRN-40-2 and vgg13, student resnet20, CIFAR-100.
HETEROGENEOUS = {"average": 69.40, "aekd": 70.16}
