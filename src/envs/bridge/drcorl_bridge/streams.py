"""Random numbers of their own for every row.

Bullet-Safety-Gym, and many an environment a user wrote, draw from numpy's global generator. With several environments
in one process they would take numbers from each other, and an episode would depend on its neighbours. The global
functions of `numpy.random` and `random` are bound methods of one hidden object each; here they are replaced by
functions that forward to the generators of the row at work. Changing rows is then one assignment, where copying the
state of the Mersenne twister in and out would cost 20 microseconds a step, a fifth of a step of BallCircle.
"""

import random

import numpy as np

#: Names whose method is called otherwise.
ALIASES = {"sample": "random_sample", "ranf": "random_sample"}


class Stream:
    """The two generators that stand in for the global ones while a row is at work."""

    def __init__(self):
        self.numpy = np.random.RandomState(0)
        self.python = random.Random(0)

    def seed(self, seed):
        """As `numpy.random.seed` and `random.seed` would."""
        self.numpy.seed(seed if seed < 2**32 else [seed & 0xFFFFFFFF, seed >> 32])
        self.python.seed(seed)


class Streams:
    """Puts itself in place of the global functions when it is made, and draws from the stream in use."""

    def __init__(self):
        #: The stream of the row at work.
        self.current = Stream()
        for name in np.random.__all__:
            method = ALIASES.get(name, name)
            if not isinstance(getattr(np.random, name), type) and hasattr(np.random.RandomState, method):
                setattr(np.random, name, self._forward("numpy", method))
        for name in dir(random.Random):
            function = getattr(random, name, None)
            if not name.startswith("_") and getattr(function, "__self__", None) is not None:
                setattr(random, name, self._forward("python", name))

    def _forward(self, generator, method):
        def draw(*args, **kwargs):
            return getattr(getattr(self.current, generator), method)(*args, **kwargs)

        draw.__name__ = method
        return draw
