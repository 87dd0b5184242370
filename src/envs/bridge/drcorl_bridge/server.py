"""The loop: one request, one reply, until the input ends. The first failure is the last reply."""

import faulthandler
import json
import platform
import sys
import traceback

import numpy as np

from . import PROTOCOL
from .frames import CLOSE, FAILED, OPEN, RESET, STEP, Pipes
from .gymnasium_api import explain
from .rows import BadAnswer, Rows
from .status import Status
from .suites import open_suite


def serve(requests, replies, status):
    """
    :param requests: descriptor the requests are read from.
    :param replies: descriptor the replies are written to.
    :param status: descriptor of the status page, 16 bytes.
    """
    # A hang is ended by SIGABRT: the handler then writes where it hung to stderr.
    faulthandler.enable()
    sys.stdout.reconfigure(line_buffering=True)
    pipes = Pipes(requests, replies)
    try:
        pipes.write_json({"protocol": PROTOCOL, "python": platform.python_version()})
        Server(pipes, Status(status)).run()
    except BrokenPipeError:
        pass


class Server:
    def __init__(self, pipes, status):
        self._pipes = pipes
        self._status = status
        self._rows = None

    def run(self):
        while True:
            request = self._pipes.read()
            if request is None:
                return
            try:
                if not self._answer(*request):
                    return
            except BrokenPipeError:
                raise
            except BaseException as error:  # noqa: BLE001, an environment may raise anything, SystemExit included
                self._pipes.write_json(self._describe(error), FAILED)
                return

    def _answer(self, kind, body):
        """False after the last request."""
        if kind == STEP:
            self._pipes.write_frame(self._rows.step(np.frombuffer(body, np.float32).reshape(len(self._rows.steps), -1)))
        elif kind == RESET:
            self._pipes.write(self._rows.reset(np.frombuffer(body, np.float64)))
        elif kind == OPEN:
            self._pipes.write_json(self._open(**json.loads(body)))
        elif kind == CLOSE:
            if self._rows is not None:
                self._rows.close()
            self._pipes.write(b"")
            return False
        else:
            raise ValueError(f"unknown request {kind}")
        return True

    def _open(self, protocol, suite, id, rows, cost_key, further, missing_cost):  # noqa: A002, names of the request
        if protocol != PROTOCOL:
            raise ValueError(f"protocol {protocol} asked for, this is {PROTOCOL}")
        make, made_anew = open_suite(suite, id)
        self._rows = Rows(make, rows, made_anew, cost_key, further, missing_cost, self._status)
        return self._rows.specification()

    def _describe(self, error):
        """Body of the failure: see frames.py."""
        row = None if self._rows is None else self._rows.row
        failure = {"row": row, "step": None if row is None else self._rows.steps[row], "trace": []}
        if isinstance(error, BadAnswer):
            return {**failure, "kind": error.kind, "message": str(error)}
        if isinstance(error, ImportError) and error.name == "gymnasium":
            return {**failure, "kind": "package", "message": str(error)}
        if (meant := explain(error)) is not None:
            return {**failure, "kind": "value", "message": meant}
        trace = traceback.format_exception(type(error), error, error.__traceback__)
        return {**failure, "kind": "exception", "message": f"{type(error).__name__}: {error}", "trace": trace}
