"""The heartbeat: four u32 in shared memory that say what this process is doing.

The other side reads them whenever it likes, also while an environment holds the interpreter, hangs, or has taken the
process down with it. So a timeout can count from the last sign of life instead of the start of a call, and a crash can
be blamed on the episode that was being played. Writing them costs a tenth of a microsecond a row.
"""

import mmap

STARTING, IDLE, MAKING, RESETTING, STEPPING = range(5)


class Status:
    """Activity, row, and a counter that moves whenever work goes on to the next row."""

    def __init__(self, descriptor):
        self._words = memoryview(mmap.mmap(descriptor, 16)).cast("I")

    def enter(self, activity, row=0):
        self._words[0] = activity
        self.beat(row)

    def beat(self, row):
        """The same activity, in the next row."""
        words = self._words
        words[1] = row
        words[2] = (words[2] + 1) & 0xFFFFFFFF
