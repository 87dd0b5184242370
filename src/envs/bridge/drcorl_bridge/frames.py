"""Frames: `u32 length | u32 kind | body of length bytes`, little-endian.

Requests, by kind, and the body of their reply:

OPEN   JSON {protocol, suite, id, rows, cost_key, further, missing_cost}
                                                   ->  JSON, the specification (see rows.py)
RESET  f64 seeds[N]                                ->  f32 observations[N, S]
STEP   f32 actions[N, A]                           ->  f32 observations[N, S], rewards[N], costs[N], further[F, N];
                                                       u8 flags[N]
CLOSE  empty                                       ->  empty, then the process ends

Before the first request the server sends one reply of its own accord, JSON {protocol, python}.

The body of a failure is JSON {kind, message, row, step, trace}: `exception`, raised by the environment; `shape` or
`value`, an answer that is none; `package`, one that this Python lacks. Row and step are null where none was at work.
"""

import json
import os
import struct

OPEN, RESET, STEP, CLOSE = 1, 2, 3, 4
OK, FAILED = 0, 1

HEADER = struct.Struct("<II")


class Pipes:
    """Both directions of the conversation."""

    def __init__(self, requests, replies):
        self._requests = requests
        self._replies = replies
        self._buffer = b""

    def read(self):
        """The next request, (kind, body); None at the end of input.
        As a rule one system call: the other side writes once."""
        if not self._fill(HEADER.size):
            return None
        length, kind = HEADER.unpack_from(self._buffer)
        end = HEADER.size + length
        if not self._fill(end):
            return None
        body = self._buffer[HEADER.size : end]
        self._buffer = self._buffer[end:]
        return kind, body

    def write(self, body, kind=OK):
        """:param body: bytes, or an array, whose bytes are meant."""
        content = bytes(body)
        self.write_frame(HEADER.pack(len(content), kind) + content)

    def write_json(self, value, kind=OK):
        # Infinity and NaN are no JSON: better an error here than on the other side.
        self.write(json.dumps(value, allow_nan=False).encode(), kind)

    def write_frame(self, frame):
        """Writes a frame whose header is already in it."""
        left = memoryview(frame)
        while len(left) > 0:
            left = left[os.write(self._replies, left) :]

    def _fill(self, length):
        """Reads until the buffer holds so many bytes; False where the input ends before."""
        while len(self._buffer) < length:
            chunk = os.read(self._requests, max(65536, length - len(self._buffer)))
            if not chunk:
                return False
            self._buffer += chunk
        return True
