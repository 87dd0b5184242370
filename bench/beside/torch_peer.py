"""The steps in PyTorch: `python torch_peer.py eager | compile`.

Compiled are the losses, with their gradients; Adam is PyTorch's fused one in both. Members of an ensemble are layers of
their own: stacked, in one batched product a layer, they took as long.
"""

import sys

import peer
import torch
from torch.nn.functional import dropout, layer_norm, linear, mish

torch.set_num_threads(1)
torch.set_num_interop_threads(1)
torch.set_float32_matmul_precision("highest")
MODE = sys.argv[1]

Adam = torch.optim.Adam


def tensor(array):
    return torch.from_numpy(array.copy())


class Critics:
    """Members `[in, hidden.., 1]` with ReLU between layers, as they are in the file."""

    def __init__(self, numbers, name):
        layers = [(numbers[f"{name}.{i}.weight"], numbers[f"{name}.{i}.bias"]) for i in range(3)]
        self.members = [[(tensor(w[e]), tensor(b[e])) for w, b in layers] for e in range(len(layers[0][0]))]
        self.parameters = [part for member in self.members for layer in member for part in layer]

    def trained(self, lr):
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        return Adam(self.parameters, lr=lr, fused=True)

    def __call__(self, x):
        return torch.cat([self.value(member, x) for member in self.members], 1)

    @staticmethod
    def value(member, x):
        for weight, bias in member[:-1]:
            x = linear(x, weight, bias).relu()
        return linear(x, *member[-1])


def critics(numbers, constants):
    gamma, rate, lr, expectile, alpha = (
        constants[name] for name in ("gamma", "target_rate", "lr", "expectile", "alpha")
    )
    q, v, cost, policy = (Critics(numbers, name) for name in ("reward_q", "reward_v", "cost_q", "policy"))
    lagged_q, lagged_cost = (Critics(numbers, f"lagged.{name}") for name in ("reward_q", "cost_q"))
    batch = [tensor(numbers[name]) for name in ("state_action", "observation", "next", "reward", "cost", "terminal")]
    optimizers = [critic.trained(lr) for critic in (q, v, cost)]
    online = [parameter.detach() for parameter in q.parameters + cost.parameters]
    lagged = lagged_q.parameters + lagged_cost.parameters

    def losses(state_action, observation, following, reward, signal, terminal):
        with torch.no_grad():
            best = lagged_q(state_action).amin(1, keepdim=True)
            target = reward + (1 - terminal) * gamma * v(following)
            joined = torch.cat([policy(following).tanh(), following], 1)
            bootstrap = lagged_cost(joined)
            bootstrap = bootstrap + alpha * bootstrap.std(1, keepdim=True)
            cost_target = (signal + (1 - terminal) * gamma * bootstrap).clamp(0, 1)
        advantage = best - v(observation)
        weight = torch.where(advantage.detach() < 0, 1 - expectile, expectile)
        value_loss = (weight * advantage.square()).mean()
        critic_loss = (q(state_action) - target).square().mean()
        return value_loss + critic_loss + (cost(state_action) - cost_target).square().mean()

    if MODE == "compile":
        losses = torch.compile(losses)

    def step():
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = losses(*batch)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        torch._foreach_lerp_(lagged, online, rate)
        return loss.item()

    return step


def behavior(numbers, constants):
    inputs = {"frequencies", "observation", "action", "unit", "noise"}
    net = {name: tensor(array).requires_grad_(True) for name, array in numbers.items() if name not in inputs}
    frequencies, observation, action, unit, noise = (
        tensor(numbers[name]) for name in ("frequencies", "observation", "action", "unit", "noise")
    )
    low, beta_0, beta_1 = (constants[name] for name in ("time_min", "beta_0", "beta_1"))
    optimizer = torch.optim.AdamW(
        net.values(), lr=constants["lr"], weight_decay=constants["weight_decay"], fused=True
    )

    def layer(name, x):
        return linear(x, net[f"{name}.weight"], net[f"{name}.bias"])

    def losses(observation, action, unit, noise):
        time = (unit * (1 - low) + low).unsqueeze(1)
        log_alpha = time.square() * (-(beta_1 - beta_0) / 4) - time * (beta_0 / 2)
        noisy = action * log_alpha.exp() + noise * (-(2 * log_alpha).expm1()).sqrt()
        angle = time * frequencies * 2 * torch.pi
        embedding = layer("time.1", mish(layer("time.0", torch.cat([angle.sin(), angle.cos()], 1))))
        trunk = layer("input", torch.cat([noisy, observation, embedding], 1))
        for i in range(constants["blocks"]):
            dropped = dropout(trunk, constants["dropout"]) if constants["dropout"] > 0 else trunk
            norm = net[f"blocks.{i}.norm.weight"], net[f"blocks.{i}.norm.bias"]
            inner = layer(f"blocks.{i}.inner", layer_norm(dropped, trunk.shape[1:], *norm))
            trunk = trunk + layer(f"blocks.{i}.outer", mish(inner))
        return (layer("output", mish(trunk)) - noise).square().sum() / len(noise)

    if MODE == "compile":
        losses = torch.compile(losses)

    def step():
        optimizer.zero_grad()
        loss = losses(observation, action, unit, noise)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


peer.serve(torch.__version__, {"critics": critics, "behavior": behavior})
