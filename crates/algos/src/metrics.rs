//! Metrics that several algorithms declare.

use drcorl_core::metrics::Metric;

/// Of a VAE of the logged actions.
pub const VAE_LOSS: Metric = Metric::loss(
    "vae_loss",
    "squared action",
    "VAE of the logged actions: squared error of the decoded action plus vae_beta KL.",
);
/// Of critics learnt by temporal differences.
pub const CRITIC_LOSS: Metric = Metric::loss(
    "critic_loss",
    "squared value",
    "Reward critics: mean squared temporal-difference error, summed over the critics.",
);
/// Likewise.
pub const COST_CRITIC_LOSS: Metric = Metric::loss(
    "cost_critic_loss",
    "squared value",
    "Cost critics: mean squared temporal-difference error, summed over the critics.",
);
/// Of a PID controller.
pub const MULTIPLIER: Metric = Metric::multiplier(
    "multiplier",
    "value of reward a value of cost",
    "Lagrange multiplier of the cost, set by the PID controller from the cost critics at the policy's actions.",
);
