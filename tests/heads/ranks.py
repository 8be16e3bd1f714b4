"""One process of several that wait for functions of test files and call them together, over gloo.

    python ranks.py RANK WORLD STORE

Reads (path of a file, name of a function in it, keyword arguments) from stdin, writes (whether it worked, result or
traceback) to stdout, pickled; ends with stdin.
"""

import importlib.util
import os
import pickle
import sys
import traceback
import warnings
from datetime import timedelta
from functools import cache
from pathlib import Path


@cache
def load(path):
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    import torch
    from torch import distributed

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    rank, world, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(seconds=60)
    )
    while True:
        try:
            path, name, options = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = True, getattr(load(path), name)(**options)
        except Exception:
            answer = False, traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
