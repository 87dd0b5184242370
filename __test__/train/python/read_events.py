"""Prints what TensorBoard reads from event files, as JSON.

Usage: read_events.py FOLDER   the scalars that are shown: {tag: [[step, value], ...]}
       read_events.py FILE     every event of one file, in a list:
                               {"step", "file_version", "start", "values": [[tag, value], ...]}
"""

import json
import os
import sys

from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import SessionLog


def folder(path: str) -> dict:
    # The accumulator reads through the checksums of every record; 0 keeps all points.
    events = EventAccumulator(path, size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    tags = events.Tags()
    curves = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in tags["scalars"]}
    for tag in tags["tensors"]:
        curves[tag] = [[e.step, e.tensor_proto.float_val[0]] for e in events.Tensors(tag)]
    return curves


def file(path: str) -> list:
    return [
        {
            "step": event.step,
            "file_version": event.file_version,
            "start": event.session_log.status == SessionLog.START,
            "values": [[value.tag, value.simple_value] for value in event.summary.value],
        }
        for event in event_file_loader.LegacyEventFileLoader(path).Load()
    ]


if __name__ == "__main__":
    target = sys.argv[1]
    json.dump(folder(target) if os.path.isdir(target) else file(target), sys.stdout)
