"""A parent for the server that outlives it, so that nothing an environment started outlives both.

Signals to a group miss whoever called `setsid`, and variables that mark a process are gone where its environment was
cleaned. The kernel has a list that cannot be left: as "subreaper" this process becomes the parent of every
descendant whose own parent ends. It kills its children until it has none.
"""

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def supervise():
    """
    Returns in the server's process. The other one, this very process, stays behind without descriptors, and ends as the
    server ended. Where the kernel is not Linux there is one process, and ending its group has to do.

    SIGTERM, also that of the kernel when the parent dies, ends everything; SIGABRT is passed on to the server.
    """
    # No core file of a crash or a hang: nobody would look at it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    # Before the fork: a signal that comes in between must not end this process alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGABRT))
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(0)
    server = os.fork()
    if server == 0:
        # This one must not outlive a supervisor that the kernel killed for want of memory.
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGABRT))
        return
    os.closerange(0, 256)
    signal.signal(signal.SIGABRT, lambda *_: os.kill(server, signal.SIGABRT))
    signal.signal(signal.SIGTERM, lambda *_: _end(-signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGABRT))
    while True:
        child, status = os.wait()
        if child == server:
            _end(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


def _end(code):
    """Kills what there is, what these had started, and so on; then ends with that exit code, or by the signal -code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGABRT))
    try:
        while True:
            for child in _children():
                os.kill(child, signal.SIGKILL)
            os.wait()
    except ChildProcessError:
        pass
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (-code,))
        os.kill(os.getpid(), -code)
    os._exit(code)


def _children():
    """Processes whose parent is this one."""
    own = os.getpid()
    for name in os.listdir("/proc"):
        if name.isdigit() and _parent(name) == own:
            yield int(name)


def _parent(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program stands in brackets and may hold anything, brackets included.
            return int(file.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def _prctl(option, value):
    ctypes.CDLL(None).prctl(option, value)
