"""Kills a run at random moments; each time the same command must end as if nothing happened.

    python tests/tools/kill_runs.py 20 KILL TERM

starts a small digits run (teachers, cache, student, a checkpoint every other step) and kills it
at a random moment, runs it again to its end, and compares the final student with that of an
uninterrupted run, bit for bit. A run that had ended before the signal does not count. Exits with
1 if any differs.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

ARGUMENTS = [
    *("--ensemble_size=2", "--teacher_epochs=3", "--epochs=4", "--train_examples=300"),
    *("--batch_size=30", "--cache_views=2", "--methods=aekd", "--checkpoint_every=2"),
]


def start(directory: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "aekd_tf.experiments.digits", *ARGUMENTS]
    return subprocess.Popen(
        [*command, f"--output_dir={directory}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(directory: str) -> list[np.ndarray]:
    """Runs to the end; the weights of the delivered student."""
    process = start(directory)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return keras.models.load_model(os.path.join(directory, "student.keras")).get_weights()


def killed(directory: str, number: int, seconds: float) -> int:
    """Starts, sends the signal after so many seconds; the exit code."""
    process = start(directory)
    time.sleep(seconds)
    process.send_signal(number)
    _, errors = process.communicate()
    assert "Traceback" not in errors, errors
    return process.returncode


def same(found: list[np.ndarray], expected: list[np.ndarray]) -> bool:
    return len(found) == len(expected) and all(map(np.array_equal, found, expected))


def state(directory: str) -> str:
    """What was there when it died, for the report."""
    names = [name for _, _, files in os.walk(directory) for name in files]
    kinds = ("checkpoint", "previous", "tmp", "npy", "keras")
    return ", ".join(f"{sum(n.endswith(k) for n in names)} {k}" for k in kinds)


def main(count: int, signals: list[str]) -> int:
    chance, wrong = random.Random(0), 0
    with tempfile.TemporaryDirectory() as directory:
        begun = time.monotonic()
        expected = finish(f"{directory}/whole")
        lasts = time.monotonic() - begun
        print(f"an uninterrupted run takes {lasts:.1f} s", flush=True)
        for name in signals:
            for trial in range(count):
                run, code = f"{directory}/{name}_{trial}", 0
                while code == 0:
                    shutil.rmtree(run, ignore_errors=True)
                    moment = chance.uniform(4.0, lasts)  # TensorFlow starts for the first four
                    code = killed(run, getattr(signal, f"SIG{name}"), moment)
                there = state(run)
                equal = same(finish(run), expected)
                wrong += not equal
                print(
                    f"SIG{name} after {moment:5.1f} s: exit {code}, then there were {there}; the "
                    f"rerun's student is {'the same' if equal else 'ANOTHER'}",
                    flush=True,
                )
    print(f"{count * len(signals) - wrong} of {count * len(signals)} the same")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
