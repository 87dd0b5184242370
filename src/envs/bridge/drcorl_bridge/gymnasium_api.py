"""What an environment of another API than Gymnasium's is told. Its answers are taken apart by assignments, here and in
Gymnasium's own wrappers; where these fail, Python speaks of values to unpack."""

import os
import re
import traceback

STEP = "(observation, reward, terminated, truncated, info)"
RESET = "(observation, info)"


def explain(error):
    """A sentence for the error of an assignment that takes the answer of `step` or `reset` apart;
    None for any other."""
    if not isinstance(error, (TypeError, ValueError)) or "unpack" not in str(error):
        return None
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    if frame.f_code.co_name not in ("step", "reset") or not _is_ours(frame):
        return None
    name = type(_innermost(frame.f_locals)).__name__
    if frame.f_code.co_name == "reset":
        return no_pair(name)
    got = re.search(r"expected 5, got (\d+)", str(error))
    if got is not None and got[1] == "4":
        what = "4 values, as Gym before 0.26 has them: split done into terminated and truncated"
    elif got is not None:
        what = f"{got[1]} values"
    elif "too many" in str(error):
        what = (
            "more than 5 values; Safety-Gymnasium gives the cost apart: "
            "wrap it in safety_gymnasium.wrappers.SafetyGymnasium2Gymnasium, which puts it into info"
        )
    else:
        what = "something else than a tuple"
    return f"an answer of another API: step() of {name} gave {what}; Gymnasium's API gives {STEP}"


def no_pair(name):
    return f"an answer of another API: reset() of {name} gave no pair; Gymnasium's API gives {RESET}"


def _is_ours(frame):
    module = frame.f_globals.get("__name__", "")
    return module.split(".")[0] == "gymnasium" or os.path.dirname(frame.f_code.co_filename) == os.path.dirname(__file__)


def _innermost(variables):
    env = variables.get("env", variables.get("self"))
    return getattr(env, "unwrapped", env)
