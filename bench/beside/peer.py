"""What all peers have in common: the numbers they start from, the clock, and requests on stdin.

A step is opened with the file that our bench wrote and the constants of its formulas; the answer are its losses, step
after step, which must be ours. Then it is measured as often as asked for. Every line of both ways is JSON.
"""

import json
import os
import platform
import sys
import time

import numpy as np

# Libraries print what they like; only answers may be on stdout.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

LOSSES = 5
"""So many steps one after the other depend on gradients, optimiser and lagged networks too."""


def read(path):
    """All tensors of a safetensors file of float32."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F32", f"{path}: {name} is {entry['dtype']}"
        start, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(data[start:end], "<f4").reshape(entry["shape"]).copy()
    return tensors


def measure(step, seconds):
    """Median milliseconds of a step on the core, after three to warm up: as our bench measures ours."""
    for _ in range(3):
        step()
    start, on_core = time.perf_counter(), time.process_time()
    samples = []
    while len(samples) < 5 or time.perf_counter() - start < seconds:
        before = time.process_time()
        step()
        samples.append(time.process_time() - before)
    # The clock is that of all threads.
    cores = (time.process_time() - on_core) / (time.perf_counter() - start)
    assert cores < 1.1, f"one thread was asked for, and {cores:.2f} were at work"
    return {"ms": 1e3 * sorted(samples)[len(samples) // 2]}


def first_call(step):
    """Loss and seconds of the first call, which compiles where something compiles."""
    start = time.perf_counter()
    loss = step()
    return loss, time.perf_counter() - start


def opened(make, kind, file, constants):
    """The step to measure, and what is told of it. Losses are those without dropout, which everybody draws anew."""
    numbers = read(file)
    step = make[kind](numbers, constants)
    loss, seconds = first_call(step)
    losses = [loss, *(step() for _ in range(LOSSES - 1))]
    if constants.get("dropout", 0) > 0:
        even = make[kind](numbers, {**constants, "dropout": 0.0})
        losses = [even() for _ in range(LOSSES)]
    return step, {"losses": losses, "first_loss": loss, "first_call_seconds": seconds}


def serve(version, make):
    """Answers until stdin ends. `make[kind](numbers, constants)` is a function that makes one step and gives its
    loss."""
    steps = {}

    def tell(answer):
        answers.write(json.dumps(answer, allow_nan=False) + "\n")
        answers.flush()

    tell({"version": version, "python": platform.python_version()})
    for line in sys.stdin:
        request = json.loads(line)
        name = request["step"]
        if "file" in request:
            # One at a time: what was opened before is not asked for again.
            steps.clear()
            steps[name], answer = opened(make, request["kind"], request["file"], request["constants"])
            tell(answer)
        else:
            tell(measure(steps[name], request["seconds"]))
