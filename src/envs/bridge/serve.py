"""Starts the environment server: `python serve.py`,
with frames on stdin and stdout and the status page on descriptor 3.

The protocol takes its two descriptors away before anything else is imported: both suites print to stdout while they are
imported, and one such line between two frames would end the conversation.
"""

import os
import sys


def take_pipes():
    """Returns (read, write), the pipes of the protocol; descriptor 0 becomes empty and 1 a second stderr."""
    requests = os.dup(0)
    replies = os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return requests, replies


if __name__ == "__main__":
    pipes = take_pipes()
    # Isolated mode (-I) leaves the folder of the script out.
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    from drcorl_bridge.frames import FAILED, Pipes
    from drcorl_bridge.supervisor import supervise

    supervise()
    try:
        from drcorl_bridge.server import serve
    except ImportError as error:
        # numpy is all that it imports besides the standard library.
        Pipes(*pipes).write_json({"kind": "package", "message": str(error)}, FAILED)
        sys.exit(1)
    serve(*pipes, status=3)
