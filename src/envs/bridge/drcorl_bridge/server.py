"""The loop: one request, one reply, until the input ends. The first failure is the last reply."""

import ctypes
import faulthandler
import json
import os
import platform
import resource
import signal
import sys
import traceback

import numpy as np

from . import PROTOCOL
from .frames import CLOSE, FAILED, OPEN, RESET, STEP, Pipes
from .rows import BadAnswer, Rows
from .status import Status
from .suites import open_suite

PR_SET_PDEATHSIG = 1


def serve(requests, replies, status):
    """
    :param requests: descriptor the requests are read from.
    :param replies: descriptor the replies are written to.
    :param status: descriptor of the status page, 16 bytes.
    """
    die_with_parent()
    # A hang is ended by SIGABRT: the handler then writes where it hung to stderr.
    # No core file: nobody would look at it.
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.reconfigure(line_buffering=True)
    pipes = Pipes(requests, replies)
    try:
        pipes.write_json({"protocol": PROTOCOL, "python": platform.python_version()})
        Server(pipes, Status(status)).run()
    except BrokenPipeError:
        pass


def die_with_parent():
    """The kernel kills this process when its parent dies,
    also where an environment hangs and never reads the end of input."""
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return
    if os.getppid() != parent:
        sys.exit(0)


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

    def _open(self, protocol, suite, id, rows, cost_key):  # noqa: A002, names of the request
        if protocol != PROTOCOL:
            raise ValueError(f"protocol {protocol} asked for, this is {PROTOCOL}")
        make, made_anew = open_suite(suite, id)
        self._rows = Rows(make, rows, made_anew, cost_key, self._status)
        return self._rows.specification()

    def _describe(self, error):
        row = None if self._rows is None else self._rows.row
        return {
            "kind": error.kind if isinstance(error, BadAnswer) else "exception",
            "message": str(error) if isinstance(error, BadAnswer) else f"{type(error).__name__}: {error}",
            "row": row,
            "step": None if row is None else self._rows.steps[row],
            "trace": [] if isinstance(error, BadAnswer) else traceback.format_exception(type(error), error, error.__traceback__),
        }
