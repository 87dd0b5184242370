"""The rollout of bridge.mjs in plain Python: `python rollout.py ENV_ID ROWS STEPS`. A line on stdin plays it;
the seconds of its steps are the answer."""

import os
import sys
import time

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../src/envs/bridge"))
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def main(env_id, rows, steps):
    import gymnasium

    if "Gymnasium" in env_id:
        from drcorl_bridge import safety_gymnasium_remedies

        safety_gymnasium_remedies.apply()
    else:
        import bullet_safety_gym  # noqa: F401
    envs = [gymnasium.make(env_id, disable_env_checker=True) for _ in range(rows)]
    size = envs[0].action_space.shape[0]
    actions = [np.array([((7 * t + 3 * i) % 11) / 5 - 1 for i in range(size)], np.float32) for t in range(steps)]
    observations = np.zeros((rows, envs[0].observation_space.shape[0]), np.float32)
    rewards, costs = np.zeros(rows, np.float32), np.zeros(rows, np.float32)
    for _ in sys.stdin:
        for row, env in enumerate(envs):
            np.random.seed(row)
            observations[row], _ = env.reset(seed=row)
        ended = [False] * rows
        seconds = []
        for action in actions:
            if any(ended):
                break
            start = time.perf_counter()
            for row, env in enumerate(envs):
                observations[row], rewards[row], terminated, truncated, info = env.step(action)
                costs[row] = info["cost"]
                ended[row] = terminated or truncated
            seconds.append(time.perf_counter() - start)
        answers.write(" ".join(map(str, seconds)) + "\n")
        answers.flush()


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
