"""Processes that work together: started with the first test that needs them, and used by all."""

import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("ranks.py")


class Pool:
    """Processes of one group; called with a function of a test file, gives what it returns on each rank."""

    def __init__(self, world, store):
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(rank), str(world), str(store)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            for rank in range(world)
        ]

    def __call__(self, function, **options):
        for process in self.processes:
            pickle.dump((inspect.getfile(function), function.__name__, options), process.stdin)
            process.stdin.flush()
        answers = [pickle.load(process.stdout) for process in self.processes]
        for worked, result in answers:
            assert worked, result
        return [result for _, result in answers]

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait(60)
            process.stdout.close()


@pytest.fixture(scope="session")
def ranks(tmp_path_factory):
    """Function number of processes -> pool of them."""
    pools = {}

    def started(world):
        if world not in pools:
            pools[world] = Pool(world, tmp_path_factory.mktemp("ranks") / f"store{world}")
        return pools[world]

    yield started
    for pool in pools.values():
        pool.close()
