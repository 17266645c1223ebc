"""Command-line experiments: `aekd-tf <command>` or `python -m aekd_tf.experiments.<command>`.

`__main__.py` lists the commands.
"""
