//! What runs of several limits share: the dynamics models, the behavior model, the warm-up and both critics, that is
//! everything before adaptation. The limit chooses branches, and branches are chosen in adaptation alone.

use drcorl_core::algorithm::{Pretraining, Unless};

/// Left out, though adaptation alone uses them: `gate`, which decides whether there are dynamics models to train first;
/// `average_keep`, which the warm-up's running average has too; `mixture_iterates`, a size of the state.
const DECIDES: &str = "decides by it whether feasibility is learnt";

pub(super) const PRETRAINING: Pretraining = Pretraining {
    before: "adaptation",
    later: &[
        // The rounds.
        "adaptation_steps",
        "actor_lr",
        "actor_lr_final",
        "value_expansion",
        "cost_updates_per_step",
        "reward_updates_per_step",
        "feasibility_updates_per_step",
        "adaptation_target_rate",
        "reward_critic",
        "candidate_interval",
        "ships",
        // The policy step.
        "guidance_scale",
        "cost_guidance_k",
        "beta_initial",
        "beta_final",
        "beta_schedule",
        "threshold_rate",
        "cost_step",
        "prologue_steps",
        "slack_schedule",
        "slack_above",
        "slack_below",
        "manipulation_space",
        "manipulation_cap",
        "multiplier",
        "pid",
        // The gate.
        "constraint",
        "model_gate_margin",
        "model_gate_correlation",
        "gate_states",
        "gate_k",
        "gate_interval",
        "gate_batch",
        "gate_rollouts",
    ],
    unless: &[
        Unless {
            parameter: "cost_limit",
            other: "behavior_data",
            value: "safe",
            why: "learns from the episodes within the limit",
        },
        Unless { parameter: "model_gate_correlation", other: "adaptation", value: "auto", why: DECIDES },
        Unless { parameter: "valid_return_correlation", other: "adaptation", value: "auto", why: DECIDES },
    ],
};

#[cfg(test)]
mod tests;
