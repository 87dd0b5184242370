//! DRCORL: diffusion-regularised constrained offline reinforcement learning (arXiv 2502.12391).
//!
//! 1. *behaviour*: a diffusion model `eps(a_t, s, t)` of the logged actions, (5).
//! 2. *warm-up*: a Dirac policy `a = tanh(MLP(s))` follows the score term alone, `w(t) (eps - z) da/dphi`, to a mode of the data.
//! 3. *critics*: reward by implicit Q-learning on dataset actions, (16)(17); cost by an ensemble on the policy's actions with
//!    pessimism, (18).
//! 4. *adaptation*: at every step the offline estimate `Chat` of the episodic cost chooses (Algorithm 2)
//!    `Chat/l <= 1 - h-`: reward step (19); up to `1 + h+`: both, combined by gradient manipulation (12); above: cost step (20).
//!    The slacks h go to 0 linearly, the temperature beta rises. What ships is the running average of the policy.
//!
//! Deviations from the published code (numbers of the spec, section 4.1), all of them repairs: costs are `[B,1]` and asserted
//! (D1); the cost critic is pessimistic (D2); the spread is over members a state (D3); no environment is ever stepped, neither
//! for the gate (D5) nor for selection (D6); the PID set point is the limit in the critics' unit, with anti-windup (D7); (12) acts on raw
//! gradients of the same noise, followed by one optimiser step (D8); returns are summed over episodes as flagged (D9); the
//! control variate is on. Deviation from the paper: critics start after the warm-up, so that the cost ensemble is evaluated on
//! the actions of a policy and not of an untrained network.

pub mod config;
mod estimates;
pub mod options;
pub mod policy_step;

use crate::critics::{join, CostCritic, CostCriticConfig, IqlConfig, IqlCritic, Pessimism};
use crate::diffusion::BehaviorModel;
use crate::gradient::{branch, branch_without_band, manipulate, slack, Branch};
use crate::lagrange::{infinite_horizon_threshold, Pid};
use config::DrcorlConfig;
use drcorl_core::algorithm::{Algorithm, Context, Define, Metrics, NamedPolicy, Phase, Preset};
use drcorl_core::dataset::{discounted_returns, Batch, Dataset};
use drcorl_core::error::Result;
use drcorl_core::hybrid::Mode;
use drcorl_core::metrics::Metric;
use drcorl_core::offline::CriticEstimates;
use drcorl_core::policy::{FrozenMlp, FrozenPolicy, Policy};
use drcorl_core::results::schema_of;
use drcorl_core::run::RunConfig;
use drcorl_nn::checkpoint::State;
use drcorl_nn::optim::cosine;
use drcorl_nn::score_net::ScoreNetShape;
use estimates::{Diagnostics, GateEstimate};
use options::{Adaptation, BehaviorData, CostStep, Gate, RewardScaling};
use policy_step::{GuidanceScaler, ScoreStep};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::{Kind, Tensor};

const BEHAVIOR: usize = 0;
const WARMUP: usize = 1;
const CRITICS: usize = 2;
const ADAPTATION: usize = 3;
/// Upper bound of the PID multiplier of the Lagrangian cost step.
const MULTIPLIER_CAP: f64 = 100.0;

/// The state of a run.
pub struct Drcorl {
    config: DrcorlConfig,
    behavior: BehaviorModel,
    behavior_rows: Tensor,
    policy: Policy,
    reward: IqlCritic,
    cost: CostCritic,
    /// Monte-Carlo values of reward and cost in the critics' unit, `[N,2]`.
    monte_carlo: Tensor,
    reward_factor: f64,
    safe_rows: Option<Tensor>,
    reward_scaler: GuidanceScaler,
    cost_scaler: GuidanceScaler,
    pid: Pid,
    /// What the switch reads.
    estimate: GateEstimate,
    branches: BranchCounts,
    selected: Selected,
}

/// How often each branch of Safe Adaptation ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
struct BranchCounts {
    /// Steps on reward alone, (19).
    reward: u64,
    /// Steps on both, combined by gradient manipulation.
    band: u64,
    /// Steps on cost, (20).
    cost: u64,
    /// Steps in the band where a weight of the combination met its cap.
    capped: u64,
    /// Steps in the band where both gradients cancelled, and one of them was followed.
    stalled: u64,
}

/// The best averaged policy so far by the offline estimate.
struct Selected {
    policy: FrozenMlp,
    found: bool,
    step: u64,
    ret: f64,
}

impl Define for Drcorl {
    type Config = DrcorlConfig;
    const NAME: &'static str = "drcorl";
    const LABEL: &'static str = "DRCORL";
    const SUMMARY: &'static str = "Diffusion-regularised policy, pessimistic cost critics, gradient manipulation, Safe Adaptation behind an offline gate.";
    const DIAGNOSTICS: Option<fn() -> Schema> = Some(schema_of::<Diagnostics>);
    const METRICS: &'static [Metric] = &[
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
        Metric::estimate(
            "cost_estimate",
            "Episodic cost of the policy under training, as the gate last read it offline.",
        ),
        Metric::measured("cost_measured", "Mean episodic cost of the last visit; only in the hybrid modes."),
        Metric::temperature("beta", "1", "Weight of the critics' guidance against the score."),
        Metric::diagnostic(
            "action_mse",
            "squared action",
            "Squared difference of the policy's and the logged actions, mean over entries; in warm-up.",
        ),
    ];

    fn defaults() -> DrcorlConfig {
        DrcorlConfig::default()
    }

    fn presets() -> Vec<Preset<DrcorlConfig>> {
        DrcorlConfig::presets()
    }

    fn check(config: &DrcorlConfig, run: &RunConfig) -> Result<()> {
        config.check(run)
    }

    fn build(config: DrcorlConfig, context: &mut Context<'_>) -> Result<Self> {
        let (data, run) = (context.data, context.run);
        let (states, actions, device) = (data.observations(), data.actions(), data.device());
        let shape = ScoreNetShape {
            observations: states,
            actions,
            hidden: config.behavior_hidden,
            blocks: config.behavior_blocks,
            expansion: config.behavior_expansion,
        };
        let behavior =
            BehaviorModel::new(shape, config.behavior_dropout, config.behavior_weight_decay, device, context.rng);
        let policy = Policy::new(states, actions, &config.actor_hidden, true, device, context.rng);
        let reward = IqlCritic::new(
            "reward",
            states,
            actions,
            &config.critic_hidden,
            reward_rates(&config),
            device,
            context.rng,
        );
        let cost_rates = cost_rates(&config, data);
        let cost = CostCritic::new(
            "cost",
            states,
            actions,
            config.cost_members,
            &config.critic_hidden,
            cost_rates,
            device,
            context.rng,
        );
        let reward_factor = reward_factor(data, config.reward_scaling) * config.unit();
        let safe = data.rows_where(|episode| episode.cost <= run.cost_limit);
        let safe_rows = (safe.numel() > 0).then_some(safe);
        let behavior_rows = match (config.behavior_data, &safe_rows) {
            (BehaviorData::Safe, Some(rows)) => rows.shallow_clone(),
            _ => data.rows_where(|_| true),
        };
        let set_point = infinite_horizon_threshold(run.cost_limit, config.gamma, data.episode_length) * config.unit();
        let selected = Selected { policy: policy.averaged(), found: false, step: 0, ret: f64::NEG_INFINITY };
        Ok(Drcorl {
            monte_carlo: monte_carlo(data, &config, reward_factor),
            pid: Pid::new(config.pid, set_point, Some(MULTIPLIER_CAP)),
            config,
            behavior,
            behavior_rows,
            policy,
            reward,
            cost,
            reward_factor,
            safe_rows,
            reward_scaler: GuidanceScaler::default(),
            cost_scaler: GuidanceScaler::default(),
            estimate: GateEstimate { cost: f64::MAX, target: run.cost_limit },
            branches: BranchCounts::default(),
            selected,
        })
    }
}

fn reward_rates(config: &DrcorlConfig) -> IqlConfig {
    IqlConfig {
        gamma: config.gamma,
        expectile: config.reward_expectile,
        target_rate: config.reward_target_rate,
        q_lr: config.critic_lr,
        v_lr: config.critic_lr,
    }
}

fn cost_rates(config: &DrcorlConfig, data: &Dataset) -> CostCriticConfig {
    let costs = &data.columns.costs;
    let (low, high) =
        costs.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &c| (low.min(c), high.max(c)));
    let scale = config.unit() / (1.0 - config.gamma);
    CostCriticConfig {
        gamma: config.gamma,
        target_rate: config.cost_target_rate,
        lr: config.critic_lr,
        backup: config.cost_backup,
        backup_k: config.cost_backup_k,
        pessimism: config.pessimism,
        alpha: config.pessimism_alpha,
        // A terminal ends the costs, so 0 is always reachable.
        clamp: config.cost_clamp.then(|| (f64::from(low.min(0.0)) * scale, f64::from(high.max(0.0)) * scale)),
        value: None,
    }
}

/// Factor that brings rewards to the scale the critic expects (D9: episodes end where they are flagged to end).
pub fn reward_factor(data: &Dataset, scaling: RewardScaling) -> f64 {
    let rewards = &data.columns.rewards;
    let count = rewards.len() as f64;
    let scale = match scaling {
        RewardScaling::Magnitude => {
            let mean = rewards.iter().map(|&r| f64::from(r)).sum::<f64>() / count;
            let magnitude = rewards.iter().map(|&r| f64::from(r).abs()).sum::<f64>() / count;
            let variance = rewards.iter().map(|&r| (f64::from(r) - mean).powi(2)).sum::<f64>() / count;
            magnitude + variance.sqrt()
        }
        RewardScaling::ReturnRange => {
            let returns = data.episodes.iter().map(|episode| episode.ret);
            let (low, high) =
                returns.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), r| (low.min(r), high.max(r)));
            (high - low) / 1000.0
        }
    };
    if scale > 0.0 {
        1.0 / scale
    } else {
        1.0
    }
}

fn monte_carlo(data: &Dataset, config: &DrcorlConfig, reward_factor: f64) -> Tensor {
    // `discounted_returns` gives (1 - gamma) times the sum of its signal.
    let per_step = 1.0 / (1.0 - config.gamma);
    let column = |signal: &[f32], factor: f64| {
        let scaled: Vec<f32> = signal.iter().map(|&x| (f64::from(x) * factor * per_step) as f32).collect();
        Tensor::from_slice(&discounted_returns(&scaled, &data.episodes, config.gamma)).unsqueeze(1)
    };
    let (reward, cost) = (column(&data.columns.rewards, reward_factor), column(&data.columns.costs, config.unit()));
    Tensor::cat(&[reward, cost], 1).to_device(data.device())
}

impl Drcorl {
    fn behavior_step(&mut self, step: u64, context: &mut Context<'_>) -> Metrics {
        let config = &self.config;
        let batch = context.data.sample_from(&self.behavior_rows, config.behavior_batch, context.rng);
        let (rows, device) = (batch.len(), context.data.device());
        let unit = context.rng.uniform(&[rows], device);
        let noise = context.rng.normal(&[rows, context.data.actions()], device);
        let dropout = self.behavior.draw_dropout(context.rng);
        let lr = cosine(config.behavior_lr, config.behavior_lr_final, step, config.behavior_steps);
        let result = self.behavior.step(&batch.observation(), &batch.action(), &unit, &noise, &dropout, lr);
        vec![("behavior_loss", result.loss)]
    }

    fn score_step(&mut self, batch: &Batch, context: &mut Context<'_>) -> ScoreStep {
        let device = context.data.device();
        let unit = context.rng.uniform(&[batch.len()], device);
        let noise = context.rng.normal(&[batch.len(), context.data.actions()], device);
        let observation = batch.observation().contiguous();
        let (weight, control) = (self.config.score_weight, self.config.control_variate);
        ScoreStep::new(&mut self.policy, &self.behavior, observation, &unit, &noise, weight, control)
    }

    fn warmup_step(&mut self, step: u64, context: &mut Context<'_>) -> Metrics {
        let batch = context.data.sample(self.config.actor_batch, context.rng);
        let score = self.score_step(&batch, context);
        let result = score.gradient(&mut self.policy, None);
        let lr = cosine(self.config.warmup_lr, 0.1 * self.config.warmup_lr, step, self.config.warmup_steps);
        self.policy.apply(&result.gradient, lr, self.config.average_keep);
        let error = (&score.action - batch.action()).square().mean(Kind::Double).double_value(&[]);
        vec![("policy_loss", result.loss), ("action_mse", error)]
    }

    fn reward_update(&mut self, batch: &Batch) -> Result<f64> {
        let signal = batch.reward() * self.reward_factor;
        let step = self.reward.step(
            &batch.state_action(),
            &batch.observation(),
            &batch.next_observation(),
            &signal,
            &batch.terminal(),
        )?;
        Ok(step.critic_loss)
    }

    fn cost_update(&mut self, batch: &Batch) -> Result<f64> {
        let next = batch.next_observation().contiguous();
        let observation = batch.observation().contiguous();
        let next_state_action = join(&self.policy.act(&next), &next);
        let policy_state_action =
            (self.config.pessimism == Pessimism::Cql).then(|| join(&self.policy.act(&observation), &observation));
        let signal = batch.cost() * self.config.unit();
        self.cost.step(
            &batch.state_action(),
            &signal,
            &batch.terminal(),
            &next_state_action,
            policy_state_action.as_ref(),
        )
    }

    fn critic_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        let batch = context.data.sample(self.config.critic_batch, context.rng);
        if step < self.config.critic_init_steps {
            let returns = self.monte_carlo.index_select(0, &batch.rows);
            let (state_action, observation) = (batch.state_action(), batch.observation());
            let reward = self.reward.regress(&state_action, &observation, &returns.narrow(1, 0, 1))?;
            let cost = self.cost.regress(&state_action, &returns.narrow(1, 1, 1))?;
            return Ok(vec![("reward_critic_loss", reward), ("cost_critic_loss", cost)]);
        }
        let (reward, cost) = (self.reward_update(&batch)?, self.cost_update(&batch)?);
        Ok(vec![("reward_critic_loss", reward), ("cost_critic_loss", cost)])
    }

    fn adaptation_step(&mut self, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        if step == 0 {
            self.policy.restart_average();
            self.cost.config.target_rate = self.config.adaptation_target_rate;
        }
        // Estimates first: they may be cancelled, and nothing that cannot be repeated has happened yet.
        if step > 0 && step.is_multiple_of(self.config.candidate_interval) {
            self.consider(step, context)?;
        }
        if step.is_multiple_of(self.config.gate_interval) {
            self.estimate = self.gate_estimate(context)?;
        }
        for _ in 0..self.config.reward_updates_per_step {
            let batch = context.data.sample_mixed(self.config.critic_batch, context.run.hybrid_share, context.rng);
            self.reward_update(&batch)?;
        }
        let mut cost_loss = 0.0;
        for _ in 0..self.config.cost_updates_per_step {
            let batch = context.data.sample_mixed(self.config.critic_batch, context.run.hybrid_share, context.rng);
            cost_loss += self.cost_update(&batch)? / self.config.cost_updates_per_step as f64;
        }
        let policy_loss = self.policy_step(step, context);
        let mut metrics =
            vec![("policy_loss", policy_loss), ("cost_critic_loss", cost_loss), ("cost_estimate", self.estimate.cost)];
        metrics.extend(context.visit.map(|visit| ("cost_measured", visit.cost)));
        metrics.push(("beta", self.config.beta(step)));
        Ok(metrics)
    }

    /// What the branches go by: the offline estimate, or what the environment said where it is asked.
    fn gated(&self, context: &Context<'_>) -> GateEstimate {
        match (context.run.mode, context.visit) {
            (Mode::HybridEval, Some(visit)) => GateEstimate { cost: visit.cost, target: context.run.cost_limit },
            _ => self.estimate,
        }
    }

    /// Algorithm 2: picks the branch, forms the gradient, makes one optimiser step.
    fn policy_step(&mut self, step: u64, context: &mut Context<'_>) -> f64 {
        let total = self.config.adaptation_steps;
        let normalised = self.gated(context).normalised();
        let above = slack(self.config.slack_above, step, total);
        let chosen = match self.config.adaptation {
            Adaptation::Band => branch(normalised, slack(self.config.slack_below, step, total), above),
            Adaptation::Crpo => branch_without_band(normalised, above),
        };
        let batch = context.data.sample(self.config.actor_batch, context.rng);
        let score = self.score_step(&batch, context);
        let state_action = join(&score.action, &batch.observation());
        let beta = self.config.beta(step);
        let (gradient, loss) = match chosen {
            Branch::Reward => {
                self.branches.reward += 1;
                self.reward_gradient(&score, &state_action, beta)
            }
            Branch::Cost => {
                self.branches.cost += 1;
                self.cost_gradient(&score, &state_action, beta)
            }
            Branch::Band => {
                self.branches.band += 1;
                self.band_gradient(&score, &state_action, beta, normalised)
            }
        };
        let lr = cosine(self.config.actor_lr, self.config.actor_lr_final, step, total);
        self.policy.apply(&gradient, lr, self.config.average_keep);
        loss
    }

    fn reward_gradient(&mut self, score: &ScoreStep, state_action: &Tensor, beta: f64) -> (Tensor, f64) {
        let guidance = self.reward.guidance(state_action, score.action.size()[1]).1;
        let push = self.reward_scaler.scale(&guidance, self.config.guidance_scale) * beta;
        let step = score.gradient(&mut self.policy, Some(&push));
        (step.gradient, step.loss)
    }

    /// (20), or the Lagrangian step that takes its place.
    fn cost_gradient(&mut self, score: &ScoreStep, state_action: &Tensor, beta: f64) -> (Tensor, f64) {
        let actions = score.action.size()[1];
        let (values, cost) = self.cost.guidance(state_action, actions, self.config.cost_guidance_k);
        let cost = self.cost_scaler.scale(&cost, self.config.guidance_scale);
        let push = match self.config.cost_step {
            CostStep::Cost => cost * -beta,
            kind => {
                let multiplier = match kind {
                    CostStep::LagrangianPid => self.pid.update(values.mean(Kind::Double).double_value(&[])),
                    _ => self.config.multiplier,
                };
                let reward = self.reward.guidance(state_action, actions).1;
                (self.reward_scaler.scale(&reward, self.config.guidance_scale) - cost * multiplier) * beta
            }
        };
        let step = score.gradient(&mut self.policy, Some(&push));
        (step.gradient, step.loss)
    }

    fn band_gradient(&mut self, score: &ScoreStep, state_action: &Tensor, beta: f64, normalised: f64) -> (Tensor, f64) {
        let (reward, reward_loss) = self.reward_gradient(score, state_action, beta);
        let (cost, cost_loss) = self.cost_gradient(score, state_action, beta);
        let combined = manipulate(&reward, &cost, self.config.manipulation_cap);
        self.branches.capped += u64::from(combined.capped);
        self.branches.stalled += u64::from(combined.stalled);
        let gradient = match (combined.stalled, normalised > 1.0) {
            (false, _) => combined.gradient,
            (true, true) => cost,
            (true, false) => reward,
        };
        (gradient, 0.5 * (reward_loss + cost_loss))
    }
}

impl Algorithm for Drcorl {
    fn phases(&self) -> Vec<Phase> {
        let config = &self.config;
        vec![
            Phase { name: "behaviour", steps: config.behavior_steps },
            Phase { name: "warm-up", steps: config.warmup_steps },
            Phase { name: "critics", steps: config.critic_init_steps + config.critic_steps },
            Phase { name: "adaptation", steps: config.adaptation_steps },
        ]
    }

    fn needs_model(&self) -> bool {
        self.config.gate != Gate::CriticUcb
    }

    fn visitor(&self, phase: usize) -> Option<Box<dyn FrozenPolicy>> {
        (phase == ADAPTATION).then(|| Box::new(self.policy.live()) as Box<dyn FrozenPolicy>)
    }

    fn step(&mut self, phase: usize, step: u64, context: &mut Context<'_>) -> Result<Metrics> {
        match phase {
            BEHAVIOR => Ok(self.behavior_step(step, context)),
            WARMUP => Ok(self.warmup_step(step, context)),
            CRITICS => self.critic_step(step, context),
            _ => self.adaptation_step(step, context),
        }
    }

    fn policies(&self) -> Vec<NamedPolicy> {
        let mut policies = vec![NamedPolicy::new("averaged", self.policy.averaged())];
        if self.selected.found {
            policies.push(NamedPolicy::new("selected", self.selected.policy.duplicate()));
        }
        policies
    }

    fn critic_estimates(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Option<CriticEstimates> {
        Some(self.estimates_on_all_sets(policy, context))
    }

    fn diagnostics(&mut self, policy: &dyn FrozenPolicy, context: &mut Context<'_>) -> Map<String, Value> {
        match serde_json::to_value(self.report(policy, context)) {
            Ok(Value::Object(facts)) => facts,
            _ => Map::new(),
        }
    }

    fn persist(&mut self, state: &mut State) -> drcorl_nn::Result<()> {
        state.group("behavior", |state| self.behavior.persist(state))?;
        state.group("policy", |state| self.policy.persist(state))?;
        state.group("reward", |state| self.reward.persist(state))?;
        state.group("cost", |state| self.cost.persist(state))?;
        state.value("cost_target_rate", &mut self.cost.config.target_rate)?;
        state.group("reward_scaler", |state| self.reward_scaler.persist(state))?;
        state.group("cost_scaler", |state| self.cost_scaler.persist(state))?;
        state.group("pid", |state| self.pid.persist(state))?;
        state.value("estimate", &mut self.estimate)?;
        state.value("branches", &mut self.branches)?;
        state.value("selected_found", &mut self.selected.found)?;
        state.value("selected_step", &mut self.selected.step)?;
        // Negative infinity is no JSON number; before anything is found the comparison value follows from that.
        let mut ret = if self.selected.found { self.selected.ret } else { 0.0 };
        state.value("selected_return", &mut ret)?;
        self.selected.ret = if self.selected.found { ret } else { f64::NEG_INFINITY };
        state.group("selected", |state| self.selected.policy.persist(state))
    }
}

#[cfg(test)]
mod tests;
