"""Plain Python beside the bridge: `python reference.py QUESTION ARGUMENTS`, the answer as one line of JSON on stdout.

Environments are made by the suites' own means; only the remedies come from the bridge, because without them Python 3.11
cannot import safety_gymnasium.
"""

import hashlib
import json
import os
import sys

import numpy as np

BRIDGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../src/envs/bridge")
sys.path.insert(0, BRIDGE)
# Whatever the suites print must not end up in the answer.
ANSWER = os.dup(1)
os.dup2(2, 1)


def make(env_id):
    import gymnasium

    if "Gymnasium" in env_id:
        from drcorl_bridge import safety_gymnasium_remedies

        safety_gymnasium_remedies.apply()
    else:
        import bullet_safety_gym  # noqa: F401
    return gymnasium.make(env_id)


def action(step, size):
    """The same action in test and reference, without a sine that two languages could round apart."""
    return np.array([((7 * step + 3 * i) % 11) / 5 - 1 for i in range(size)], np.float32)


def episodes(env_id, steps, *seeds):
    """Each episode in an environment of its own, seeded as a careful user would:
    [first observation, [observation, reward, cost]...]."""
    answer = []
    for seed in map(int, seeds):
        env = make(env_id)
        np.random.seed(seed)
        observation, _ = env.reset(seed=seed)
        trace = [as_list(observation)]
        for step in range(int(steps)):
            observation, reward, terminated, truncated, info = env.step(action(step, env.action_space.shape[0]))
            trace.append([as_list(observation), float(np.float32(reward)), float(np.float32(info["cost"]))])
            if terminated or truncated:
                break
        env.close()
        answer.append(trace)
    return answer


def as_list(observation):
    return np.asarray(observation, np.float32).tolist()


def skies(steps, *env_ids):
    """sha1 over observations, rewards and costs as float64, with the original sky and with the plain one."""
    from drcorl_bridge import safety_gymnasium_remedies as remedies

    with remedies.tolerant_dataclasses():
        import safety_gymnasium.world
    original = {env_id: digest(env_id, int(steps)) for env_id in env_ids}
    remedies.use_plain_sky(safety_gymnasium.world)
    return {env_id: [original[env_id], digest(env_id, int(steps))] for env_id in env_ids}


def digest(env_id, steps):
    import gymnasium

    hashed = hashlib.sha1()
    env = gymnasium.make(env_id)
    for seed in (0, 1):
        observation, _ = env.reset(seed=seed)
        hashed.update(np.float64(observation).tobytes())
        for step in range(steps):
            observation, reward, _, _, info = env.step(action(step, env.action_space.shape[0]))
            hashed.update(np.float64(observation).tobytes() + np.float64([reward, info["cost"]]).tobytes())
    return hashed.hexdigest()


class Ball:
    """BallCircle: the observation is the whole state but the height, which is that of a ball on the floor."""

    env_id = "SafetyBallCircle-v0"

    def put(self, env, observation):
        agent = env.agent
        agent.set_position([observation[0] * 10, observation[1] * 10, 0.5])
        agent.set_velocity([observation[2] * 5, observation[3] * 5, 0], observation[4:7] * 10)


class Hopper:
    """HopperVelocity: the observation is the state but the distance run, on which nothing depends."""

    env_id = "SafetyHopperVelocityGymnasium-v1"

    def put(self, env, observation):
        env.set_state(np.concatenate(([0], observation[:5])), observation[5:])


def predict(task, folder, obs_dim, act_dim):
    """Puts the environment into every logged state, takes the logged action,
    and gives what comes out beside what was logged."""
    model = {"BallCircle": Ball, "HopperVelocity": Hopper}[task]()
    observations, actions = read(folder, "observations", obs_dim), read(folder, "actions", act_dim)
    wrapped = make(model.env_id)
    wrapped.reset(seed=0)
    # Without its wrappers: they count steps and would end the episode.
    env = wrapped.unwrapped
    rows = []
    for observation, taken in zip(observations, actions):
        model.put(env, observation.astype(np.float64))
        following, reward, *rest = env.step(taken)
        # Safety-Gymnasium's own step has the cost as third value, Bullet's has it in info.
        cost, terminated = (rest[-1]["cost"], rest[0]) if len(rest) == 3 else (rest[0], rest[1])
        rows.append([as_list(following), float(reward), float(cost), bool(terminated)])
    return rows


def replay(folder, obs_dim, act_dim, length):
    """BallCircle: whole logged episodes from their first state with their own actions, open loop."""
    observations, actions = read(folder, "observations", obs_dim), read(folder, "actions", act_dim)
    length = int(length)
    env = make(Ball.env_id)
    answer = []
    for first in range(0, len(actions), length):
        env.reset(seed=0)
        Ball().put(env.unwrapped, observations[first].astype(np.float64))
        total = [0.0, 0.0]
        for taken in actions[first : first + length]:
            _, reward, _, _, info = env.step(taken)
            total[0] += reward
            total[1] += info["cost"]
        answer.append(total)
    return answer


def judge(folder, obs_dim, act_dim):
    """CarRun: reward and cost of logged transitions by the environment's own functions,
    from the two observations alone."""
    observations, following = read(folder, "observations", obs_dim), read(folder, "next_observations", obs_dim)
    env = make("SafetyCarRun-v0").unwrapped
    env.reset(seed=0)
    rows = []
    for before, after in zip(observations.astype(np.float64), following.astype(np.float64)):
        place(env, before)
        env.task.old_potential = env.task.calculate_task_potential()
        place(env, after)
        env.agent.collect_information_after_step()
        rows.append([float(env.task.calculate_reward()), float(env.task.calculate_cost()["cost"])])
    return rows


def place(env, observation):
    agent = env.agent
    height = agent.init_xyz[2]
    yaw = np.arctan2(observation[4], observation[5])
    env.bc.resetBasePositionAndOrientation(
        agent.body_id, [observation[0] * 10, observation[1] * 10, height], env.bc.getQuaternionFromEuler([0, 0, yaw])
    )
    agent.set_velocity([observation[2], observation[3], 0], [0, 0, observation[6] * 10])


def read(folder, name, width):
    return np.fromfile(os.path.join(folder, name), np.float32).reshape(-1, int(width))


QUESTIONS = {"episodes": episodes, "skies": skies, "predict": predict, "replay": replay, "judge": judge}

if __name__ == "__main__":
    with os.fdopen(ANSWER, "w") as stream:
        stream.write(json.dumps(QUESTIONS[sys.argv[1]](*sys.argv[2:])))
