"""The steps in JAX: each is one function, compiled whole, whose state is donated to the next call."""

import os

# One core, and so one thread: JAX knows no other way to say it. Where a system has no such call more would work, and
# measuring refuses that.
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import peer
from jax import tree

jax.config.update("jax_default_matmul_precision", "highest")


def adam(parameters, gradients, moments, count, lr, decay=0.0):
    """One step of Adam as Kingma and Ba have it, with decoupled weight decay."""
    beta_1, beta_2, eps = 0.9, 0.999, 1e-8
    first = tree.map(lambda m, g: beta_1 * m + (1 - beta_1) * g, moments[0], gradients)
    second = tree.map(lambda v, g: beta_2 * v + (1 - beta_2) * g * g, moments[1], gradients)
    size, correction = lr / (1 - beta_1**count), 1 / jnp.sqrt(1 - beta_2**count)

    def moved(p, m, v):
        return p * (1 - lr * decay) - size * m / (jnp.sqrt(v) * correction + eps)

    return tree.map(moved, parameters, first, second), (first, second)


def stepper(step, parameters, lagged, fixed):
    """A function that makes one step and gives its loss. `step(state, fixed)` gives state and loss."""
    zeros = [tree.map(jnp.zeros_like, parameters) for _ in range(2)]
    compiled = jax.jit(step, donate_argnums=0)
    state = (parameters, lagged, tuple(zeros), jnp.float32(0), jax.random.key(0))

    def run():
        nonlocal state
        state, loss = compiled(state, fixed)
        return float(loss)

    return run


def critics(numbers, constants):
    gamma, rate, lr, expectile, alpha = (
        constants[name] for name in ("gamma", "target_rate", "lr", "expectile", "alpha")
    )

    def network(name):
        return [(jnp.array(numbers[f"{name}.{i}.weight"]), jnp.array(numbers[f"{name}.{i}.bias"])) for i in range(3)]

    def member(layers, x):
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight.T + bias)
        weight, bias = layers[-1]
        return x @ weight.T + bias

    def values(network, x):
        """`[B,E]` of an ensemble, which is stacked."""
        return jax.vmap(member, (0, None))(network, x)[..., 0].T

    def losses(online, lagged, policy, batch):
        state_action, observation, following, reward, signal, terminal = batch
        best = values(lagged["reward_q"], state_action).min(1, keepdims=True)
        target = reward + (1 - terminal) * gamma * jax.lax.stop_gradient(values(online["reward_v"], following))
        action = jnp.tanh(member([(weight[0], bias[0]) for weight, bias in policy], following))
        bootstrap = values(lagged["cost_q"], jnp.concatenate([action, following], 1))
        bootstrap = bootstrap + alpha * bootstrap.std(1, ddof=1, keepdims=True)
        cost_target = jnp.clip(signal + (1 - terminal) * gamma * bootstrap, 0, 1)
        advantage = best - values(online["reward_v"], observation)
        weight = jnp.where(jax.lax.stop_gradient(advantage) < 0, 1 - expectile, expectile)
        value_loss = (weight * advantage**2).mean()
        critic_loss = ((values(online["reward_q"], state_action) - target) ** 2).mean()
        return value_loss + critic_loss + ((values(online["cost_q"], state_action) - cost_target) ** 2).mean()

    def step(state, fixed):
        online, lagged, moments, count, key = state
        loss, gradients = jax.value_and_grad(losses)(online, lagged, *fixed)
        online, moments = adam(online, gradients, moments, count + 1, lr)
        lagged = {name: tree.map(lambda t, s: t + rate * (s - t), lagged[name], online[name]) for name in lagged}
        return (online, lagged, moments, count + 1, key), loss

    batch = [jnp.array(numbers[name]) for name in ("state_action", "observation", "next", "reward", "cost", "terminal")]
    online = {name: network(name) for name in ("reward_q", "reward_v", "cost_q")}
    lagged = {name: network(f"lagged.{name}") for name in ("reward_q", "cost_q")}
    return stepper(step, online, lagged, (network("policy"), batch))


def behavior(numbers, constants):
    names = ("frequencies", "observation", "action", "unit", "noise")
    low, beta_0, beta_1 = (constants[name] for name in ("time_min", "beta_0", "beta_1"))
    kept = 1 - constants["dropout"]

    def losses(net, key, frequencies, observation, action, unit, noise):
        def layer(name, x):
            return x @ net[f"{name}.weight"].T + net[f"{name}.bias"]

        def norm(name, x):
            centred = x - x.mean(1, keepdims=True)
            scale = jax.lax.rsqrt((centred**2).mean(1, keepdims=True) + 1e-5)
            return centred * scale * net[f"{name}.weight"] + net[f"{name}.bias"]

        time = (unit * (1 - low) + low)[:, None]
        log_alpha = time**2 * (-(beta_1 - beta_0) / 4) - time * (beta_0 / 2)
        noisy = action * jnp.exp(log_alpha) + noise * jnp.sqrt(-jnp.expm1(2 * log_alpha))
        angle = time * frequencies * 2 * jnp.pi
        mish = jax.nn.mish
        embedding = layer("time.1", mish(layer("time.0", jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], 1))))
        trunk = layer("input", jnp.concatenate([noisy, observation, embedding], 1))
        for i in range(constants["blocks"]):
            dropped = trunk
            if kept < 1:
                mask = jax.random.bernoulli(jax.random.fold_in(key, i), kept, trunk.shape)
                dropped = jnp.where(mask, trunk / kept, 0)
            inner = mish(layer(f"blocks.{i}.inner", norm(f"blocks.{i}.norm", dropped)))
            trunk = trunk + layer(f"blocks.{i}.outer", inner)
        return ((layer("output", mish(trunk)) - noise) ** 2).sum() / len(noise)

    def step(state, fixed):
        net, lagged, moments, count, key = state
        key, now = jax.random.split(key)
        loss, gradients = jax.value_and_grad(losses)(net, now, *fixed)
        net, moments = adam(net, gradients, moments, count + 1, constants["lr"], constants["weight_decay"])
        return (net, lagged, moments, count + 1, key), loss

    net = {name: jnp.array(array) for name, array in numbers.items() if name not in names}
    return stepper(step, net, {}, [jnp.array(numbers[name]) for name in names])


peer.serve(jax.__version__, {"critics": critics, "behavior": behavior})
