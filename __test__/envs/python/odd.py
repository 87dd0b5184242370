"""Environments that are each odd in one way: some are to be played, some to be refused in words that help.

`odd:KIND-v0`; odd.spec.ts says of every kind what is right. The first observation of a reset is all zeros but for
`obsnan`, step t costs 1 where t is a multiple of 5, and every reward is 1.
"""

import ctypes
import os
import subprocess
import time

import gymnasium
import numpy as np
from gymnasium import spaces

LENGTH = 20


class Numpy24(np.ndarray):
    """An array as of numpy 2.4, which no longer lets one entry pass for a number; earlier ones only warned."""

    def __float__(self):
        raise TypeError("only 0-dimensional arrays can be converted to Python scalars")


def one_entry(value):
    return np.array([value]).view(Numpy24)


class Number:
    """Stands for a tensor of another library."""

    def __init__(self, value):
        self.value = value

    def __float__(self):
        return self.value


OBSERVATION_SPACES = {
    "dict": spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(-1, 1, (2,))),
    "image": spaces.Box(0, 255, (3, 64, 64), np.uint8),
    "matrix": spaces.Box(-1, 1, (2, 2)),
    "tupleobs": spaces.Tuple((spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (2,)))),
    "obs2": spaces.Box(-1, 1, (2,)),
}
ACTION_SPACES = {
    "discrete": spaces.Discrete(4),
    "multidisc": spaces.MultiDiscrete([3, 3]),
    "wide": spaces.Box(-np.inf, np.inf, (2,)),
    "halfwide": spaces.Box(np.float32([-1, -np.inf]), np.float32([np.inf, 1])),
}
#: By kind, what stands in for the cost `c`.
INFOS = {
    "npcost": lambda c: {"cost": one_entry(c)},
    "np0cost": lambda c: {"cost": np.float32(c)},
    "np2cost": lambda c: {"cost": np.array([c, 1.0])},
    "emptycost": lambda c: {"cost": np.array([])},
    "nocost": lambda c: {},
    "energy": lambda c: {"cost": c, "energy": np.float32(0.5), "alarm": 1.0 - c},
    "negative": lambda c: {"cost": c, "energy": -1.0},
    "nonecost": lambda c: {"cost": None},
    "nancost": lambda c: {"cost": float("nan")},
    "boolcost": lambda c: {"cost": bool(c)},
    "strcost": lambda c: {"cost": "1"},
    "objcost": lambda c: {"cost": Number(c)},
    "negcost": lambda c: {"cost": -1.0},
    "hugecost": lambda c: {"cost": 10**400},
    "complexcost": lambda c: {"cost": 1j},
    "sparsecost": lambda c: {"cost": 1.0} if c else {},
    "infonone": lambda c: None,
    "infolist": lambda c: [("cost", c)],
}
REWARDS = {"nonerew": None, "nprew": one_entry(1.0), "intrew": 1, "strrew": "1", "listrew": [1.0]}


class Odd(gymnasium.Env):
    metadata = {"render_modes": []}

    def __init__(self, kind):
        self.kind = kind
        self.observation_space = OBSERVATION_SPACES.get(kind, spaces.Box(-10, 10, (4,), np.float64))
        self.action_space = ACTION_SPACES.get(kind, spaces.Box(-1, 1, (2,), np.float32))
        if kind == "nanbox":
            self.action_space.low[1] = np.nan

    def observation(self):
        zeros = np.zeros(4)
        observations = {
            "list": [0.0] * 4,
            "col": zeros[:, None],
            "obs3": zeros[:3],
            "obsnan": zeros * np.nan,
            "obsnone": None,
            "obsstr": list("abcd"),
            "obs2": np.zeros(2),
        }
        return observations.get(self.kind, zeros)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        if self.kind in ("noinfo", "obs2"):
            return self.observation()
        return self.observation(), None if self.kind == "resetinfonone" else {}

    def step(self, action):
        self.steps += 1
        cost = float(self.steps % 5 == 0)
        kind, observation, reward = self.kind, self.observation(), REWARDS.get(self.kind, 1.0)
        info = INFOS.get(kind, lambda c: {"cost": c})(cost)
        if kind == "step4":
            return observation, reward, self.steps >= LENGTH, info
        if kind == "step6":
            return observation, reward, cost, False, False, {}
        if kind == "stepnone":
            return None
        if kind == "npterm":
            return observation, reward, np.bool_(self.steps >= 9), np.bool_(False), info
        if kind == "arrayterm":
            return observation, reward, np.array([self.steps >= 9]), np.array([False]), info
        if kind == "print":
            print("noise on stdout", flush=True)
        if kind == "exit":
            raise SystemExit(3)
        if kind == "act":
            assert self.action_space.contains(action), (action, action.dtype)
        if kind == "segv" and self.steps == 3:
            ctypes.string_at(0)
        if kind == "fork":
            subprocess.run(["true"], check=True)
        if kind == "unpack":
            first, second = (1, 2, 3)
        if kind == "forge":
            forge(b"\x04\x00\x00\x00\x01\x00\x00\x00null")
        if kind.startswith("session") and self.steps == 3:
            # In a session of its own, where no signal to the group reaches it, and under a parent that ends at once.
            subprocess.Popen("sleep 98760 & sleep 98761", shell=True, start_new_session=True)
            # Without the environment variables that tell where it came from.
            subprocess.Popen(["sleep", "98762"], start_new_session=True, env={})
            if kind == "session_crash":
                os._exit(1)
            if kind == "session_hang":
                time.sleep(1000)
        return observation, reward, False, False, info


def forge(frame):
    """Writes into every pipe there is: one of them is the server's own."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            try:
                os.write(int(name), frame)
            except OSError:
                pass


KINDS = (
    "ok image list col obs3 obsnone obsstr obsnan dict matrix tupleobs discrete multidisc wide halfwide nanbox noinfo obs2 resetinfonone "
    "npterm arrayterm step4 step6 stepnone print exit act segv fork unpack forge session session_crash session_hang"
).split()
for kind in [*KINDS, *INFOS, *REWARDS]:
    gymnasium.register(f"{kind}-v0", entry_point=Odd, max_episode_steps=LENGTH, kwargs={"kind": kind})
gymnasium.register("ns/named-v0", entry_point=Odd, max_episode_steps=LENGTH, kwargs={"kind": "ok"})
gymnasium.register("nolimit-v0", entry_point=Odd, kwargs={"kind": "ok"})
