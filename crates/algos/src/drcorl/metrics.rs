//! What the steps of DRCORL say about themselves.

use drcorl_core::metrics::Metric;

/// In the order in which they are told.
pub(super) const METRICS: &[Metric] = &[
    Metric::loss(
        "behavior_loss",
        "1",
        "Diffusion model of the logged actions: squared error of the predicted noise, (5).",
    ),
    Metric::loss(
        "policy_loss",
        "1",
        "Policy: mean of w(t) <e, a> - beta <G, a>, G by the branch of the step; the score term alone in warm-up.",
    ),
    Metric::loss(
        "reward_critic_loss",
        "squared value",
        "Reward critics: squared error, (16) and (17); of Monte-Carlo values at first.",
    ),
    Metric::loss(
        "cost_critic_loss",
        "squared value",
        "Cost critics: squared error, (18), with its pessimism; of Monte-Carlo values at first.",
    ),
    Metric::loss(
        "margin_loss",
        "nats",
        "Classifier of next states: cross entropy of whether a transition costs anything; adaptation state.",
    ),
    Metric::loss(
        "feasibility_loss",
        "squared violation",
        "Feasibility critic: squared error against the largest violation to come; adaptation state.",
    ),
    Metric::estimate("cost_estimate", "Episodic cost of the policy under training, as the gate last read it offline."),
    Metric::diagnostic(
        "limit_use",
        "1",
        "The largest of the gate's estimates, each over the cost it is steered to; only with several limits.",
    ),
    Metric::diagnostic(
        "feasible_share",
        "1",
        "Share of the batch's states that follow the reward alone; adaptation state.",
    ),
    Metric::diagnostic(
        "violation_threshold",
        "violation",
        "Feasibility value up to which a state follows the reward; adaptation state.",
    ),
    Metric::measured("cost_measured", "Mean episodic cost of the last visit; only in the hybrid modes."),
    Metric::temperature("beta", "1", "Weight of the critics' guidance against the score."),
    Metric::diagnostic(
        "action_mse",
        "squared action",
        "Squared difference of the policy's and the logged actions, mean over entries; in warm-up.",
    ),
];
