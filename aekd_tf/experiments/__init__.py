"""Command-line experiments: `python -m aekd_tf.experiments.{digits,cifar,teachers}`."""
