"""An environment of your own in Gymnasium: a cart that is paid for its speed and pays a cost above the limit.

The cost is `info["cost"]`; another key is named with --cost-key. From the folder above:
npx drcorl envs check examples.speed_limit:SpeedLimit-v0
"""

import gymnasium
import numpy as np

LIMIT = 1.0


class SpeedLimit(gymnasium.Env):
    """Observation: position and speed. Action: force in [-1, 1]."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.1, 0.1, 2)
        return self.state.copy(), {}

    def step(self, action):
        self.state[1] += 0.1 * float(action[0])
        self.state[0] += 0.1 * self.state[1]
        speed = self.state[1]
        return self.state.copy(), speed, False, False, {"cost": float(abs(speed) > LIMIT)}


gymnasium.register("SpeedLimit-v0", entry_point=SpeedLimit, max_episode_steps=60)
