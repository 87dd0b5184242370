"""How an environment is made, suite by suite. A suite gives (make, made_anew).

`make()` gives a Gymnasium environment; `made_anew` is true where its `reset` does not forget the episode before.
"""

import functools
import os
import sys


def open_suite(suite, env_id):
    """
    :param suite: `bullet_safety_gym`, `safety_gymnasium` or `user`.
    :param env_id: id in Gymnasium's registry; of the user's own, `module:Id` imports the module first.
    """
    return SUITES[suite](env_id)


def _gymnasium(env_id):
    import gymnasium

    # The checker looks at the first steps only and warns; what matters here is checked in rows.py, at every step.
    return functools.partial(gymnasium.make, env_id, disable_env_checker=True)


def _bullet(env_id):
    import bullet_safety_gym  # noqa: F401, registers

    # Its reset restores positions and velocities, but not the motors of cars and drones: the same seed then gives
    # another episode after each history (measured on all eight tasks; Ball and Ant are clean). A new world has no
    # history; it costs 0.1 s with a car and 0.5 s with a drone.
    return _gymnasium(env_id), "Car" in env_id or "Drone" in env_id


def _safety_gymnasium(env_id):
    from . import safety_gymnasium_remedies

    safety_gymnasium_remedies.apply()
    return _gymnasium(env_id), False


def _user(env_id):
    sys.path.insert(0, os.getcwd())
    return _gymnasium(env_id), False


SUITES = {"bullet_safety_gym": _bullet, "safety_gymnasium": _safety_gymnasium, "user": _user}
