//! Guided denoising of plans, and the choice among them.

use drcorl_kernels::InstructionSet;

use super::network::{At, Denoiser, DenoiserWork};
use super::schedule::Level;
use super::value::{ValueNet, ValueWork};

/// How the weight of the cost's gradient depends on how far a plan is above its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CostWeight {
    /// As given.
    Constant,
    /// Times `exp(clip((y - kappa) / kappa, 0, 1))`: the ratio changes its sign with the budget's.
    Relative,
    /// The same with the budget, where that is smaller, replaced by the cost's unit.
    Guarded,
}

/// Which values choose among the plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ranking {
    /// Those of the last guidance, of the plans before the last denoising step.
    Stale,
    /// Those of the plans themselves.
    Final,
}

/// How plans are led.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance {
    /// Step along the gradient, times the variance of the reverse step; 0 leads nowhere.
    pub scale: f32,
    /// Weight of the cost's gradient where a plan is above its budget.
    pub cost_weight: f32,
    pub cost_weight_by: CostWeight,
    /// Steps along the gradient a noise level.
    pub repeats: usize,
    /// The first level that is led; those below are not.
    pub stop: usize,
    /// Leads actions alone.
    pub actions_only: bool,
    /// What a value is divided by before its gradient is taken.
    pub reward_unit: f32,
    pub cost_unit: f32,
    pub ranking: Ranking,
}

impl Guidance {
    /// The cost gradient's weight for a plan of cost value `cost` under the budget `kappa`.
    pub fn weight(&self, cost: f32, kappa: f32) -> f32 {
        // At its budget a plan is within it.
        if cost <= kappa {
            return 0.0;
        }
        let over = |budget: f32| ((cost - kappa) / budget).clamp(0.0, 1.0).exp();
        self.cost_weight
            * match self.cost_weight_by {
                CostWeight::Constant => 1.0,
                CostWeight::Relative => over(kappa),
                CostWeight::Guarded => over(kappa.max(self.cost_unit)),
            }
    }
}

/// The numbers plans are ranked by, and the best one's index: by reward, those above their budget 1e8 lower; all above,
/// by cost alone. The first of equals.
pub fn rank(rewards: &[f32], costs: &[f32], budgets: &[f32], values: &mut [f32]) -> usize {
    let none = costs.iter().zip(budgets).all(|(cost, kappa)| cost > kappa);
    for (i, value) in values.iter_mut().enumerate() {
        *value = match costs[i] > budgets[i] {
            _ if none => -costs[i],
            true => rewards[i] - 1e8,
            false => rewards[i],
        };
    }
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// Plans on the way: what a replay of recorded numbers looks at.
pub trait Watch {
    /// Before the first step: noise, with the first observation given.
    fn begun(&mut self, _plans: &[f32]) {}
    /// After a step along the gradient: the values `[n]` and gradients `[n, steps, entries]` before it.
    fn guided(&mut self, _level: usize, _values: [&[f32]; 2], _gradients: [&[f32]; 2], _plans: &[f32]) {}
    /// After a reverse step.
    fn denoised(&mut self, _level: usize, _plans: &[f32]) {}
    /// True if values and gradients are wanted that no plan depends on.
    fn everything(&self) -> bool {
        false
    }
}

/// No one looks.
impl Watch for () {}

/// The networks of a planner.
#[derive(Debug)]
pub(super) struct Networks {
    pub set: InstructionSet,
    /// Steps of a plan, entries of a step: actions first, then the observation.
    pub steps: usize,
    pub actions: usize,
    pub observations: usize,
    pub levels: Vec<Level>,
    pub denoiser: Denoiser,
    /// Absent where nothing is to be led or chosen.
    pub values: Option<[ValueNet; 2]>,
}

/// Plans in the making, with their working memory.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// `[n, steps, entries]`.
    pub plans: Vec<f32>,
    predicted: Vec<f32>,
    noise: Vec<f32>,
    /// Reward and cost values `[n]`, and gradients.
    pub rewards: Vec<f32>,
    pub costs: Vec<f32>,
    reward_gradient: Vec<f32>,
    cost_gradient: Vec<f32>,
    denoiser: DenoiserWork,
    value: ValueWork,
}

impl Networks {
    /// Entries of a step.
    pub fn entries(&self) -> usize {
        self.actions + self.observations
    }

    /// Numbers of a plan.
    pub fn size(&self) -> usize {
        self.steps * self.entries()
    }

    /// Products of one plan.
    pub fn work(&self, guidance: &Guidance, choice: bool) -> f64 {
        let values = self.values.iter().flatten().map(ValueNet::work).sum::<f64>();
        let led = if guidance.scale == 0.0 { 0.0 } else { 2.0 * guidance.repeats as f64 };
        let levels = self.levels.len() as f64;
        levels * (self.denoiser.work(self.steps) + led * values) + if choice { values } else { 0.0 }
    }

    /// Makes `states.len() / S` plans that begin at normalised `states [n,S]`, each under its budget of `kappas [n]`.
    /// `noise` fills a plan's numbers with standard normal draws, by the plan's number: once for its beginning, then
    /// once a level but the last. Values are left in `work` where `choice` asks for them.
    pub fn make(
        &self,
        (states, kappas): (&[f32], &[f32]),
        (guidance, choice): (&Guidance, bool),
        work: &mut Work,
        noise: &mut impl FnMut(usize, &mut [f32]),
        watch: &mut impl Watch,
    ) {
        let count = states.len() / self.observations;
        let size = self.size();
        for part in [&mut work.plans, &mut work.predicted, &mut work.reward_gradient, &mut work.cost_gradient] {
            super::network::sized(part, count * size);
        }
        super::network::sized(&mut work.noise, size);
        for part in [&mut work.rewards, &mut work.costs] {
            super::network::sized(part, count);
        }
        work.plans[..count * size].chunks_exact_mut(size).enumerate().for_each(|(i, plan)| noise(i, plan));
        self.begin_at(states, &mut work.plans);
        watch.begun(&work.plans[..count * size]);
        for level in (0..self.levels.len()).rev() {
            let at = At { set: self.set, count, steps: self.steps, level };
            self.guide(at, (states, kappas), (guidance, choice), work, watch);
            self.denoiser.run(at, &work.plans, &mut work.predicted, &mut work.denoiser);
            let (first, second) = self.levels[level].posterior();
            let (first, second) = (first as f32, second as f32);
            let deviation = self.levels[level].clipped_variance().sqrt() as f32;
            let plans = work.plans[..count * size].chunks_exact_mut(size).zip(work.predicted.chunks_exact(size));
            for (i, (plan, predicted)) in plans.enumerate() {
                plan.iter_mut().zip(predicted).for_each(|(x, x0)| *x = first * x0 + second * *x);
                // The last step is the mean.
                if level > 0 {
                    noise(i, &mut work.noise[..size]);
                    plan.iter_mut().zip(&work.noise).for_each(|(x, z)| *x += deviation * z);
                }
            }
            self.begin_at(states, &mut work.plans);
            watch.denoised(level, &work.plans[..count * size]);
        }
        if choice && guidance.ranking == Ranking::Final {
            let at = At { set: self.set, count, steps: self.steps, level: 0 };
            self.evaluate(at, work, [false; 2]);
        }
    }

    /// Overwrites the first observation of every plan.
    fn begin_at(&self, states: &[f32], plans: &mut [f32]) {
        for (plan, state) in plans.chunks_exact_mut(self.size()).zip(states.chunks_exact(self.observations)) {
            plan[self.actions..self.entries()].copy_from_slice(state);
        }
    }

    /// Reward and cost values, with gradients where they are asked for; zeros without networks.
    fn evaluate(&self, at: At, work: &mut Work, gradients: [bool; 2]) {
        let Work { plans, rewards, costs, reward_gradient, cost_gradient, value, .. } = work;
        let Some([reward, cost]) = &self.values else {
            rewards.fill(0.0);
            costs.fill(0.0);
            return;
        };
        let [for_reward, for_cost] = gradients;
        reward.evaluate(at, plans, rewards, for_reward.then_some(reward_gradient.as_mut_slice()), value);
        cost.evaluate(at, plans, costs, for_cost.then_some(cost_gradient.as_mut_slice()), value);
    }

    fn guide(
        &self,
        at: At,
        (states, kappas): (&[f32], &[f32]),
        (guidance, choice): (&Guidance, bool),
        work: &mut Work,
        watch: &mut impl Watch,
    ) {
        let leads = at.level >= guidance.stop && guidance.scale != 0.0 && self.values.is_some();
        let ranks = choice && at.level == 0 && guidance.ranking == Ranking::Stale;
        let all = watch.everything();
        let (count, size, entries) = (at.count, self.size(), self.entries());
        for repeat in 0..guidance.repeats {
            // Where nothing is led, the last values count.
            if !(all || leads || (ranks && repeat + 1 == guidance.repeats)) {
                continue;
            }
            self.evaluate(at, work, [all || leads; 2]);
            if leads {
                let step = guidance.scale * self.levels[at.level].clipped_variance() as f32;
                let plans = work.plans[..count * size].chunks_exact_mut(size);
                let gradients = work.reward_gradient.chunks_exact(size).zip(work.cost_gradient.chunks_exact(size));
                let budgets = work.costs.iter().zip(kappas);
                for ((plan, (reward, cost)), (&value, &kappa)) in plans.zip(gradients).zip(budgets) {
                    let weight = guidance.weight(value, kappa) / guidance.cost_unit;
                    let masked = |i: usize| guidance.actions_only && i % entries >= self.actions;
                    for (i, (x, (r, c))) in plan.iter_mut().zip(reward.iter().zip(cost)).enumerate() {
                        if !masked(i) {
                            *x += step * (r / guidance.reward_unit - weight * c);
                        }
                    }
                }
                self.begin_at(states, &mut work.plans);
            }
            watch.guided(
                at.level,
                [&work.rewards[..count], &work.costs[..count]],
                [&work.reward_gradient[..count * size], &work.cost_gradient[..count * size]],
                &work.plans[..count * size],
            );
        }
    }
}

/// How the remaining budget is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BudgetUnit {
    /// The limit is a discounted sum: `kappa_0 = limit`, `kappa_{t+1} = (kappa_t - c_t) / gamma`.
    Limit,
    /// As that, from `limit (1 - gamma^L) / ((1 - gamma) L)`, which is the discounted sum of an even spending.
    Even,
    /// What is left of the limit, spent evenly over the n steps that are left: `left (1 - gamma^n) / ((1 - gamma) n)`.
    Remaining,
}

/// The budget of one episode.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    pub unit: BudgetUnit,
    pub gamma: f64,
    /// Steps of a full episode L.
    pub length: usize,
}

impl Budget {
    /// Discounted sum of n steps of 1/n.
    fn even(&self, steps: usize) -> f64 {
        let n = steps.max(1) as f64;
        if self.gamma == 1.0 {
            1.0
        } else {
            (1.0 - self.gamma.powf(n)) / ((1.0 - self.gamma) * n)
        }
    }

    /// What an episode begins with, for [`Budget::spend`].
    pub fn start(&self, limit: f64) -> f64 {
        match self.unit {
            BudgetUnit::Limit | BudgetUnit::Remaining => limit,
            BudgetUnit::Even => limit * self.even(self.length),
        }
    }

    /// What is left after a step that cost `cost`.
    pub fn spend(&self, left: f64, cost: f64) -> f64 {
        match self.unit {
            BudgetUnit::Remaining => left - cost,
            BudgetUnit::Limit | BudgetUnit::Even => (left - cost) / self.gamma,
        }
    }

    /// The budget `kappa` of a plan made at step `step`, in the value net's unit.
    pub fn kappa(&self, left: f64, step: usize) -> f64 {
        match self.unit {
            BudgetUnit::Remaining => left * self.even(self.length.saturating_sub(step)),
            BudgetUnit::Limit | BudgetUnit::Even => left,
        }
    }
}
