"""Command-line experiments: `python -m aekd_tf.experiments.<command>`.

The commands are digits, cifar, imagenet, teachers, paper, compare and export.
"""
