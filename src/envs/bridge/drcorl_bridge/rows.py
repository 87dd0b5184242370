"""N environments side by side. Row i plays the episode it was reset for until it ends,
and then rests until the next reset."""

import numpy as np

from . import status as doing
from .frames import HEADER, OK
from .gymnasium_api import no_pair
from .streams import Stream, Streams

TERMINATED, TRUNCATED, STEPPED = 1, 2, 4

#: What numpy takes as one number without a question; it would also take texts.
PLAIN_NUMBERS = frozenset((float, bool, np.float64, np.float32, np.int64, np.int32, np.bool_))


class BadAnswer(Exception):
    """The environment answered with something that is no observation, reward or cost.

    `kind` is `shape` for a wrong size and `value` for a wrong content.
    """

    def __init__(self, kind, message):
        super().__init__(message)
        self.kind = kind


class Rows:
    """
    :param make: makes one environment.
    :param count: N.
    :param made_anew: true where a row needs a new environment for its second and later episodes.
    :param cost_key: key of the cost in `info`.
    :param further: keys of the F further costs in `info`.
    :param missing_cost: the cost of a step whose `info` has no such key; None makes that an error.
    :param status: told which row is at work.
    """

    def __init__(self, make, count, made_anew, cost_key, further, missing_cost, status):
        self._make = make
        self._made_anew = made_anew
        self._cost_key = cost_key
        self._further_keys = further
        self._missing_cost = missing_cost
        self._status = status
        self._streams = Streams()
        self._row_streams = [Stream() for _ in range(count)]
        self._played = [False] * count
        self._running = [False] * count
        #: Steps of the current episode, for messages.
        self.steps = [0] * count
        #: The row at work, for messages; None between rows.
        self.row = None
        self._envs = [None] * count
        for row in range(count):
            self._enter(doing.MAKING, row)
            self._envs[row] = self._new_env(row)
        self._leave()
        self._observation_shape = box(self._envs[0].observation_space, "observation").shape
        self._actions = box(self._envs[0].action_space, "action")
        self._allocate(count, self._observation_shape[0])

    def specification(self):
        """What the other side has to know: sizes, the box of the actions with null for an open side, and the stated
        length of an episode."""
        spec = self._envs[0].spec
        steps = None if spec is None else spec.max_episode_steps
        if steps is None:
            raise BadAnswer(
                "value", "no length of an episode: register it with max_episode_steps, or wrap it in TimeLimit"
            )
        return {
            "obs_dim": self._observation_shape[0],
            "act_dim": self._actions.shape[0],
            "action_low": limits(self._actions.low),
            "action_high": limits(self._actions.high),
            "max_episode_steps": int(steps),
        }

    def reset(self, seeds):
        """
        Starts the episode of seed i in row i.

        :param seeds: [N] whole numbers.
        :return: [N, S] float32, overwritten by the next call.
        """
        for row, seed in enumerate(seeds):
            self._enter(doing.RESETTING, row)
            self.steps[row] = 0
            if self._played[row] and self._made_anew:
                self._envs[row].close()
                self._row_streams[row].seed(0)
                self._envs[row] = self._new_env(row)
            self._row_streams[row].seed(int(seed))
            env = self._envs[row]
            answer = env.reset(seed=int(seed))
            # Not by assignment: an observation of two entries is no pair.
            if not isinstance(answer, tuple) or len(answer) != 2:
                raise BadAnswer("value", no_pair(type(env.unwrapped).__name__))
            self._played[row] = self._running[row] = True
            self._require_shape(answer[0])
            self._take_observation(row, answer[0])
        self._leave()
        self._require_finite()
        return self._observations

    def step(self, actions):
        """
        :param actions: [N, A] float32; clipped to the box of the environment.
        :return: a reply frame, overwritten by the next call;
            a row at rest repeats its last observation, with reward and cost 0.
        """
        observations, rewards, costs, flags = self._observations, self._rewards, self._costs, self._flags
        rewards[:] = 0
        costs[:] = 0
        further, further_keys = self._further, self._further_keys
        further[:] = 0
        flags[:] = 0
        # np.clip takes three times as long for so few numbers.
        low, high = self._actions.low, self._actions.high
        clipped = np.minimum(np.maximum(actions, low), high).astype(self._actions.dtype, copy=False)
        shape, cost_key, running, steps = self._observation_shape, self._cost_key, self._running, self.steps
        beat, streams, row_streams, plain = self._status.beat, self._streams, self._row_streams, PLAIN_NUMBERS
        self._status.enter(doing.STEPPING)
        # What follows is all that a step costs over plain Python: hence locals, and as few calls as can be.
        for row, env in enumerate(self._envs):
            if not running[row]:
                continue
            self.row = row
            steps[row] += 1
            beat(row)
            streams.current = row_streams[row]
            observation, reward, terminated, truncated, info = env.step(clipped[row])
            if getattr(observation, "shape", None) != shape:
                self._require_shape(observation)
                self._take_observation(row, observation)
            else:
                observations[row] = observation
            rewards[row] = reward if reward.__class__ in plain else number("reward", reward)
            try:
                cost = info[cost_key]
            except (KeyError, TypeError, IndexError):
                cost = self._absent_cost(cost_key, info)
            costs[row] = cost if cost.__class__ in plain else number("cost", cost)
            for index, key in enumerate(further_keys):
                try:
                    cost = info[key]
                except (KeyError, TypeError, IndexError):
                    cost = self._absent_cost(key, info)
                further[index, row] = cost if cost.__class__ in plain else number("cost", cost)
            flags[row] = STEPPED | (TERMINATED if terminated else 0) | (TRUNCATED if truncated else 0)
            if terminated or truncated:
                running[row] = False
        self._leave()
        self._require_finite()
        return self._frame

    def close(self):
        for env in self._envs:
            if env is not None:
                env.close()

    def _new_env(self, row):
        self._streams.current = self._row_streams[row]
        return self._make()

    def _allocate(self, count, size):
        """One frame holds the reply to every step; the arrays are views of it."""
        floats = count * (size + 2 + len(self._further_keys))
        self._frame = bytearray(HEADER.size + 4 * floats + count)
        HEADER.pack_into(self._frame, 0, len(self._frame) - HEADER.size, OK)
        self._values = values = np.frombuffer(self._frame, np.float32, floats, HEADER.size)
        self._observations = values[: count * size].reshape(count, size)
        self._rewards = values[count * size : count * (size + 1)]
        self._costs = values[count * (size + 1) : count * (size + 2)]
        self._all_costs = values[count * (size + 1) :].reshape(1 + len(self._further_keys), count)
        self._further = self._all_costs[1:]
        self._flags = np.frombuffer(self._frame, np.uint8, count, HEADER.size + 4 * floats)

    def _enter(self, activity, row):
        self.row = row
        self._status.enter(activity, row)
        self._streams.current = self._row_streams[row]

    def _leave(self):
        self.row = None
        self._status.enter(doing.IDLE)

    def _require_shape(self, observation):
        """Also lets sequences pass that are no arrays but have the right length."""
        shape = np.shape(observation)
        if shape != self._observation_shape:
            expected = list(self._observation_shape)
            raise BadAnswer("shape", f"an observation of shape {list(shape)}, where its observation_space says {expected}")

    def _take_observation(self, row, observation):
        try:
            self._observations[row] = observation
        except (TypeError, ValueError):
            raise BadAnswer("value", f"an observation that is not made of numbers: {shown(observation)}") from None

    def _absent_cost(self, key, info):
        """What stands for a cost that is not in `info`."""
        if not isinstance(info, dict):
            raise BadAnswer("value", f"the info {shown(info)}, which is no dict: the cost is looked for in it") from None
        if self._missing_cost is not None:
            return self._missing_cost
        keys = ", ".join(sorted(map(str, info))) or "nothing"
        raise BadAnswer(
            "value",
            f'no cost: info has no key "{key}"; it holds {keys}; name the key with --cost-key, '
            "or say --missing-cost 0 where a step without it costs nothing",
        ) from None

    def _require_finite(self):
        """One test of the whole reply; only where it fails is the row looked for."""
        if np.isfinite(self._values).all():
            lowest = int(self._all_costs.argmin())
            cost = self._all_costs.flat[lowest]
            if cost < 0:
                self.row = lowest % self._all_costs.shape[1]
                raise BadAnswer("value", f"cost {cost}, which is below 0: a cost counts what is to be kept below a limit")
            return
        named = [("observation", self._observations), ("reward", self._rewards), ("cost", self._costs)]
        for name, values in named + list(zip(self._further_keys, self._further)):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad) > 0:
                self.row = int(bad[0][0])
                component = f" (component {bad[0][1]})" if name == "observation" else ""
                raise BadAnswer("value", f"{name} {values[tuple(bad[0])]}{component}, which is no finite number")


def number(name, value):
    """One real number of whatever an environment gave: also of arrays and tensors with one entry, of any shape."""
    try:
        if isinstance(value, int):
            return float(value)
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            if array.size != 1:
                text = f"the {name} {shown(value)}, an array of {array.size} entries, where one number is due"
                raise BadAnswer("value", text)
            return array.item()
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadAnswer("value", f"the {name} {shown(value)}, which is no number") from None


def shown(value):
    """As in Python, but never pages of it."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def limits(values):
    """Sides of a box, None where it is open: JSON has no infinity."""
    return [float(value) if np.isfinite(value) else None for value in values]


REMEDIES = {
    "observation": "flatten it with gymnasium.wrappers.FlattenObservation",
    "action": "actions are real numbers here: wrap it in a gymnasium.ActionWrapper that makes its actions from such",
}


def box(space, name):
    """Refuses spaces other than vectors of real numbers."""
    shape = getattr(space, "shape", None)
    if type(space).__name__ != "Box" or shape is None or len(shape) != 1:
        text = f"the {name} space {space}; only one-dimensional Box spaces are supported; {REMEDIES[name]}"
        raise BadAnswer("shape", text)
    if np.isnan(space.low).any() or np.isnan(space.high).any():
        raise BadAnswer("value", f"the {name} space {space}, with a bound that is NaN")
    return space
