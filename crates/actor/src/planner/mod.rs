//! Kind `planner`: a plan of the next steps, denoised from noise and led by value nets towards reward within what is
//! left of the cost limit (TREBI, Lin et al. 2023; diffusion planners, Janner et al., arXiv:2205.09991).
//!
//! A step of a plan is `[action, observation]`, the action standardised by `plan.action_mean` and `plan.action_std`. Of
//! several plans the first actions of the best are taken: [`rank`]. Where a plan may be led to and how is [`Guidance`],
//! what an episode may still cost is [`Budget`].

mod network;
mod plan;
mod play;
mod schedule;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

use drcorl_kernels::InstructionSet;

use crate::actor::{Frame, Kind, Play};
use crate::error::{Error, Result};
use crate::file::{Fields, PolicyFile};
use network::Denoiser;
use plan::{Networks, Work};
use value::ValueNet;

pub use plan::{rank, Budget, BudgetUnit, CostWeight, Guidance, Ranking, Watch};
pub use schedule::{cosine_schedule, Level};

/// The numbers a user may change, in the order of [`Choices`].
const SETTINGS: [&str; 5] = ["cost_limit", "candidates", "replan_interval", "guide_scale", "cost_weight"];
/// Most plans to choose among.
const MOST_CANDIDATES: f64 = 4096.0;

/// The policy of a file.
#[derive(Debug)]
struct Planner {
    networks: Networks,
    /// Of actions in [-1, 1].
    action_mean: Vec<f32>,
    action_std: Vec<f32>,
    /// Scale and weight are those of the file.
    guidance: Guidance,
    budget: Budget,
    seed: u64,
}

/// What a user asked for.
#[derive(Debug, Clone, Copy)]
struct Choices {
    cost_limit: f64,
    candidates: usize,
    replan_interval: usize,
    guidance: Guidance,
}

/// Reads the networks of a file, from `NAME.*` of `denoiser`, `reward_value` and `cost_value`.
fn networks(fields: &Fields, [actions, observations]: [usize; 2], set: InstructionSet) -> Result<Networks> {
    let (steps, levels) = (fields.count("plan_length")?, fields.count("noise_levels")?);
    let (widths, entries) = (fields.count("denoiser_levels")?, actions + observations);
    if widths > 12 || !steps.is_multiple_of(1 << (widths - 1)) {
        let text =
            format!("is {steps}, expected a multiple of 2^(n - 1) for n = {widths} denoiser_levels of at most 12");
        return Err(Error::data("metadata plan_length", &text));
    }
    let value = |name: &str| ValueNet::read(fields, name, [steps, entries], fields.count("value_levels")?, levels);
    let with_values = fields.text("value_levels").is_some();
    Ok(Networks {
        set,
        steps,
        actions,
        observations,
        levels: cosine_schedule(levels),
        denoiser: Denoiser::read(fields, "denoiser", entries, widths, levels)?,
        values: with_values.then(|| Ok([value("reward_value")?, value("cost_value")?])).transpose()?,
    })
}

fn guidance(fields: &Fields) -> Result<Guidance> {
    let unit = |key: &str| -> Result<f32> {
        let value = fields.number(key)? as f32;
        if value > 0.0 {
            return Ok(value);
        }
        Err(Error::data(&format!("metadata {key}"), &format!("is {value}, expected a positive number")))
    };
    Ok(Guidance {
        scale: fields.number("setting.guide_scale")? as f32,
        cost_weight: fields.number("setting.cost_weight")? as f32,
        cost_weight_by: fields.choice(
            "cost_weight_by",
            &[("constant", CostWeight::Constant), ("relative", CostWeight::Relative), ("guarded", CostWeight::Guarded)],
        )?,
        repeats: fields.count("guide_repeats")?,
        stop: fields.whole("guide_stop")? as usize,
        actions_only: fields.choice("guide_entries", &[("all", false), ("actions", true)])?,
        reward_unit: unit("reward_unit")?,
        cost_unit: unit("cost_unit")?,
        ranking: fields.choice("ranking", &[("stale", Ranking::Stale), ("final", Ranking::Final)])?,
    })
}

fn budget(fields: &Fields) -> Result<Budget> {
    let units = [("limit", BudgetUnit::Limit), ("even", BudgetUnit::Even), ("remaining", BudgetUnit::Remaining)];
    let gamma = fields.number("gamma")?;
    if !(gamma > 0.0 && gamma <= 1.0) {
        return Err(Error::data("metadata gamma", &format!("is {gamma}, expected a number above 0 and at most 1")));
    }
    Ok(Budget { unit: fields.choice("budget", &units)?, gamma, length: fields.whole("episode_length")? as usize })
}

/// Reads the kind's own fields.
pub(crate) fn read(fields: &Fields, frame: &Frame, set: InstructionSet) -> Result<Arc<dyn Kind>> {
    let actions = frame.act_dim();
    let planner = Planner {
        networks: networks(fields, [actions, frame.obs_dim()], set)?,
        action_mean: fields.vector("plan.action_mean", actions)?.to_vec(),
        action_std: fields.vector("plan.action_std", actions)?.to_vec(),
        guidance: guidance(fields)?,
        budget: budget(fields)?,
        seed: fields.whole("seed")?,
    };
    for name in SETTINGS {
        fields.number(&format!("setting.{name}"))?;
    }
    Ok(Arc::new(planner))
}

impl Planner {
    /// # Panics
    /// If one of [`SETTINGS`] is missing.
    fn choices(&self, settings: &BTreeMap<String, f64>) -> Choices {
        let [cost_limit, candidates, replan_interval, scale, weight] = SETTINGS.map(|name| settings[name]);
        Choices {
            cost_limit,
            candidates: candidates as usize,
            replan_interval: replan_interval as usize,
            guidance: Guidance { scale: scale as f32, cost_weight: weight as f32, ..self.guidance },
        }
    }
}

impl Kind for Planner {
    fn remembers(&self) -> bool {
        true
    }

    fn refuses(&self, name: &str, value: f64) -> Option<String> {
        let whole = |most: f64| {
            let fits = value.fract() == 0.0 && (1.0..=most).contains(&value);
            (!fits).then(|| format!("is {value}, expected a whole number from 1 to {most}"))
        };
        match name {
            "candidates" if value > 1.0 && self.networks.values.is_none() => {
                Some(format!("is {value}, but the file has no value nets to choose by; give 1"))
            }
            "candidates" => whole(MOST_CANDIDATES),
            "replan_interval" => whole(self.networks.steps as f64),
            "guide_scale" | "cost_weight" if value < 0.0 => Some(format!("is {value}, expected 0 or more")),
            _ => None,
        }
    }

    fn work(&self, settings: &BTreeMap<String, f64>) -> f64 {
        let Choices { candidates, replan_interval, guidance, .. } = self.choices(settings);
        candidates as f64 * self.networks.work(&guidance, candidates > 1) / replan_interval as f64
    }

    fn play(self: Arc<Self>, settings: &BTreeMap<String, f64>) -> Box<dyn Play> {
        let choices = self.choices(settings);
        Box::new(play::PlannerPlay::new(self, choices))
    }
}

/// The plans of a file's networks, from states, budgets and noise that are given: for replays of recorded numbers.
pub struct PlanReplay {
    networks: Networks,
    work: Work,
}

impl PlanReplay {
    /// Reads `plan_length`, `noise_levels`, the networks and their numbers of levels; `[A, S]` are the entries of an
    /// action and of an observation.
    ///
    /// # Errors
    /// As [`crate::Actor::new`].
    pub fn new(file: &PolicyFile, sizes: [usize; 2]) -> Result<PlanReplay> {
        let networks = networks(&Fields::of(file), sizes, InstructionSet::best())?;
        Ok(PlanReplay { networks, work: Work::default() })
    }

    /// Plans `[n, steps, A + S]` for normalised `states [n,S]` under budgets `kappas [n]`, and the values they are
    /// ranked by: of rewards and costs, `[n]` each. `noise` fills a plan's numbers by its index.
    pub fn make(
        &mut self,
        states: &[f32],
        kappas: &[f32],
        guidance: &Guidance,
        mut noise: impl FnMut(usize, &mut [f32]),
        watch: &mut impl Watch,
    ) -> [Vec<f32>; 3] {
        let (count, size) = (kappas.len(), self.networks.size());
        self.networks.make((states, kappas), (guidance, true), &mut self.work, &mut noise, watch);
        let Work { plans, rewards, costs, .. } = &self.work;
        [&plans[..count * size], &rewards[..count], &costs[..count]].map(<[f32]>::to_vec)
    }

    /// Predictions of the denoiser for `x [n, steps, A + S]` at noise level `level`.
    pub fn denoise(&mut self, x: &[f32], level: usize) -> Vec<f32> {
        let count = x.len() / self.networks.size();
        let at = network::At { set: self.networks.set, count, steps: self.networks.steps, level };
        let mut out = vec![0.0; x.len()];
        self.networks.denoiser.run(at, x, &mut out, &mut network::DenoiserWork::default());
        out
    }

    /// Reward and cost values `[n]` of `x` at noise level `level`, and their gradients; None without value nets.
    pub fn values(&mut self, x: &[f32], level: usize) -> Option<[(Vec<f32>, Vec<f32>); 2]> {
        let count = x.len() / self.networks.size();
        let at = network::At { set: self.networks.set, count, steps: self.networks.steps, level };
        let nets = self.networks.values.as_ref()?;
        Some([&nets[0], &nets[1]].map(|net| {
            let (mut values, mut gradient) = (vec![0.0; count], vec![0.0; x.len()]);
            net.evaluate(at, x, &mut values, Some(&mut gradient), &mut value::ValueWork::default());
            (values, gradient)
        }))
    }
}

#[cfg(test)]
mod tests;
