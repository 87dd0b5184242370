"""Environments of a user who got something wrong, one for each way;
and one that got it right but draws from global generators."""

import ctypes
import os
import random
import subprocess
import sys
import time

import gymnasium
import numpy as np

LENGTH = 10


class Walk(gymnasium.Env):
    """Two coordinates pushed by the action; reward and cost are drawn from global generators, as many a user's are."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float64)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = seed
        self.steps = 0
        self.position = np.random.standard_normal(2) + self.np_random.uniform(size=2)
        return self.position.copy(), {}

    def step(self, action):
        self.steps += 1
        self.position += float(action[0]) + 0.1 * np.random.normal(size=2) + 0.01 * random.gauss(0, 1)
        return self.position.copy(), np.random.rand(), False, False, {"cost": float(np.random.randint(2)), "price": 3.0}


class Misbehaving(Walk):
    """Does what `fault` says in step 3 of the episodes with an even seed."""

    def __init__(self, fault):
        self.fault = fault
        if fault == "raise_when_made":
            raise RuntimeError("no display")

    def reset(self, *, seed=None, options=None):
        if self.fault == "hang_in_reset" and seed % 2 == 0:
            time.sleep(1000)
        return super().reset(seed=seed)

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if self.steps == 3 and self.seed % 2 == 0:
            fault = self.fault
            if fault == "raise":
                raise ValueError("the door is locked")
            if fault == "exit":
                sys.exit(5)
            if fault == "vanish":
                print("about to vanish")
                sys.stdout.flush()
                os._exit(7)
            if fault == "crash":
                ctypes.string_at(0)
            if fault == "hang":
                hang_here()
            if fault == "hang_in_native_code":
                # Holds the interpreter's lock, as a simulator does.
                ctypes.PyDLL(None).sleep(1000)
            if fault == "leave_a_child":
                subprocess.Popen(["sleep", "1000"])
                os._exit(1)
            if fault == "shape":
                observation = np.zeros(3)
            if fault == "scalar":
                observation = 1.0
            if fault == "nan_observation":
                observation[1] = np.nan
            if fault == "nan_reward":
                reward = float("nan")
            if fault == "infinite_cost":
                info["cost"] = float("inf")
            if fault == "no_number":
                reward = "high"
            if fault == "no_cost":
                info = {"speed": 1.0}
        if self.fault == "slow":
            time.sleep(0.1)
        if self.fault == "noisy":
            os.write(1, b"written past Python\n" * 50)
            print("printed", flush=True)
        return observation, reward, terminated, truncated, info

    def close(self):
        if self.fault == "hang_when_closed":
            time.sleep(1000)


class Discrete(Walk):
    action_space = gymnasium.spaces.Discrete(3)


def hang_here():
    while True:
        time.sleep(0.01)


FAULTS = (
    "raise exit vanish crash hang hang_in_native_code hang_in_reset hang_when_closed leave_a_child shape scalar nan_observation "
    "nan_reward infinite_cost no_number no_cost slow noisy raise_when_made"
)

gymnasium.register("Walk-v0", entry_point=Walk, max_episode_steps=LENGTH)
gymnasium.register("Endless-v0", entry_point=Walk)
gymnasium.register("Discrete-v0", entry_point=Discrete, max_episode_steps=LENGTH)
for fault in FAULTS.split():
    gymnasium.register(f"{fault}-v0", entry_point=Misbehaving, max_episode_steps=LENGTH, kwargs={"fault": fault})
