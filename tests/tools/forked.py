"""Runs functions in processes of their own that TensorFlow is imported in already.

An import takes seconds of CPU each time. The processes are forked from one that imports
TensorFlow and Keras and does nothing else: there are no threads and no devices to inherit.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import tempfile

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tensorflow", "keras"])


class Forked:
    """A process that runs `function(*arguments)` and exits with what that returns.

    Offers what the tests use of `subprocess.Popen`.
    """

    def __init__(self, function, *arguments, **environment):
        self._files = [tempfile.mkstemp() for _ in range(2)]
        paths = [path for _, path in self._files]
        self._process = _CONTEXT.Process(
            target=_run, args=(function, arguments, environment, paths)
        )
        self._process.start()

    @property
    def pid(self):
        return self._process.pid

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=None):
        """Waits for its end; what it wrote to stdout and stderr."""
        self._process.join(timeout)
        assert self.returncode is not None, f"still running after {timeout} s"
        texts = []
        for descriptor, path in self._files:
            with open(descriptor) as file:
                texts.append(file.read())
            os.unlink(path)
        return texts


def output(code):
    """What it prints, run with what its own imports bring and TensorFlow and Keras alone."""
    process = Forked(exec, code, {"__name__": "__main__"})
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return printed


def stop():
    """Ends the process that they are forked from. Only then does `time` count what they took."""
    multiprocessing.forkserver._forkserver._stop()


def _run(function, arguments, environment, paths):
    os.environ.update(environment)
    for number, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.exit(function(*arguments))
