"""Starts N worker processes of a cluster on this machine, each with its TF_CONFIG.

    python tools/local_workers.py 2 python -m aekd_tf.experiments.digits --strategy=multi_worker

The chief's output is shown. Ends with the first exit code that is not 0.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys


def cluster(count: int) -> list[str]:
    """The TF_CONFIG of each of `count` workers, on free ports."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    task = {"type": "worker"}
    return [
        json.dumps({"cluster": {"worker": workers}, "task": {**task, "index": index}})
        for index in range(count)
    ]


def main(count: int, command: list[str]) -> int:
    processes = [
        subprocess.Popen(
            command,
            env={**os.environ, "TF_CONFIG": config},
            stdout=None if index == 0 else subprocess.DEVNULL,
        )
        for index, config in enumerate(cluster(count))
    ]
    return next((code for code in [process.wait() for process in processes] if code), 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
