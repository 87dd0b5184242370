//! Plans of recorded networks, by the actor's planner: recorded noise in, every step of every plan out.

use super::super::{Binding, Fixture, Plan, Record, Tensors};
use super::{numbers, sizes, whole, widths};
use drcorl_actor::planner::{rank, Budget, BudgetUnit, CostWeight, Guidance, PlanReplay, Ranking, Watch};
use drcorl_actor::PolicyFile;
use drcorl_core::error::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

struct Planning {
    replay: PlanReplay,
    guidance: Guidance,
    /// Plans, steps, entries of an action, of a step, noise levels.
    size: [usize; 5],
}

pub fn bind_plan(fixture: &Fixture, variant: &str, init: &Tensors, _device: Device) -> Result<Plan> {
    let number = |key: &str| fixture.hyper(&[key]);
    let [actions, entries] = sizes(fixture)?.map(|size| size as usize);
    let mut file = PolicyFile::new("planner");
    for (name, value) in init.iter() {
        let shape: Vec<usize> = value.size().iter().map(|&d| d as usize).collect();
        file.insert(name, &shape, numbers(value)?);
    }
    file.set("plan_length", number("horizon")?);
    file.set("noise_levels", number("n_timesteps")?);
    file.set("denoiser_levels", widths(fixture, "unet_mults")?.len());
    file.set("value_levels", widths(fixture, "value_mults")?.len());
    let replay = PlanReplay::new(&file, [actions, entries - actions]).map_err(|e| Error::Data(e.to_string()))?;
    let kind = fixture.variant(variant, "guide_type").as_i64();
    let guidance = Guidance {
        scale: number("scale")? as f32,
        cost_weight: number("cost_grad_weight")? as f32,
        cost_weight_by: if kind == Some(0) { CostWeight::Relative } else { CostWeight::Constant },
        repeats: number("n_guide_steps")? as usize,
        stop: number("t_stopgrad")? as usize,
        actions_only: fixture.variant(variant, "state_grad_mask").as_bool() == Some(true),
        reward_unit: 1.0,
        cost_unit: 1.0,
        ranking: Ranking::Stale,
    };
    let levels = number("n_timesteps")? as usize;
    let size = [number("candidates")? as usize, number("horizon")? as usize, actions, entries, levels];
    Ok(Plan::Run(Box::new(Planning { replay, guidance, size })))
}

/// What is seen of plans on the way.
#[derive(Default)]
struct Seen {
    plans: Vec<f32>,
    /// Of rewards and costs.
    values: [Vec<f32>; 2],
    /// By level, repeats one after the other: gradients of both, and plans.
    guided: BTreeMap<usize, [Vec<f32>; 3]>,
}

impl Watch for Seen {
    fn begun(&mut self, plans: &[f32]) {
        self.plans.extend(plans);
    }

    fn guided(&mut self, level: usize, values: [&[f32]; 2], gradients: [&[f32]; 2], plans: &[f32]) {
        let guided = self.guided.entry(level).or_default();
        for (kept, new) in guided.iter_mut().zip([gradients[0], gradients[1], plans]) {
            kept.extend(new);
        }
        self.values.iter_mut().zip(values).for_each(|(kept, new)| kept.extend(new));
    }

    fn denoised(&mut self, _level: usize, plans: &[f32]) {
        self.plans.extend(plans);
    }

    fn everything(&self) -> bool {
        true
    }
}

impl Binding for Planning {
    fn formulas(&mut self, fixture: &Fixture) -> Result<Record> {
        let mut record = Record::new();
        for case in fixture.cases("ranking") {
            let inputs = fixture.group("", &format!("ranking/{case}/in"));
            let of = |name: &str| inputs.get(name).and_then(numbers);
            let rewards = of("reward_y")?;
            let mut values = vec![0.0; rewards.len()];
            let best = rank(&rewards, &of("cost_y")?, &of("threshold")?, &mut values);
            record.push((format!("ranking/{case}/values"), Tensor::from_slice(&values)));
            record.push((format!("ranking/{case}/best"), Tensor::from(best as i64)));
        }
        for case in fixture.cases("budget") {
            let inputs = fixture.group("", &format!("budget/{case}/in"));
            let number = |name: &str| -> Result<f64> { Ok(inputs.get(name)?.double_value(&[])) };
            let unit = if case.ends_with("fixed_length") { BudgetUnit::Even } else { BudgetUnit::Limit };
            let length = whole(&inputs, "episode_length")? as usize;
            let budget = Budget { unit, gamma: number("gamma")?, length };
            // A table of tasks may say what share of a number the limit is.
            let ratio = if inputs.has("ratio") { number("ratio")? } else { 1.0 };
            let mut left = vec![budget.start(number("limit")? * ratio)];
            for cost in numbers(inputs.get("costs")?)? {
                left.push(budget.spend(left[left.len() - 1], f64::from(cost)));
            }
            let kappas: Vec<f64> = left.iter().enumerate().map(|(step, &left)| budget.kappa(left, step)).collect();
            record.push((format!("budget/{case}/init"), Tensor::from(left[0])));
            record.push((format!("budget/{case}/kappa"), Tensor::from_slice(&kappas)));
        }
        Ok(record)
    }

    fn step(&mut self, step: usize, _batch: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        Err(Error::Data(format!("step {step}: plans are no steps")))
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let [plans, steps, actions, entries, levels] = self.size;
        let of = |name: &str| inputs.get(name).and_then(numbers);
        let (mean, std) = (inputs.get("obs_mean")?, inputs.get("obs_std")?);
        let state = numbers(&((inputs.get("obs")? - mean) / std))?.repeat(plans);
        let noise = of("noise")?;
        let size = steps * entries;
        let mut taken = vec![0; plans];
        let draw = |plan: usize, out: &mut [f32]| {
            out.copy_from_slice(&noise[(taken[plan] * plans + plan) * size..][..size]);
            taken[plan] += 1;
        };
        let kappas = vec![of("threshold")?[0]; plans];
        let mut seen = Seen::default();
        let [made, rewards, costs] = self.replay.make(&state, &kappas, &self.guidance, draw, &mut seen);
        let mut values = vec![0.0; plans];
        let best = rank(&rewards, &costs, &kappas, &mut values);
        let plan = Tensor::from_slice(&made[best * size..][..size]).view([steps as i64, entries as i64]);
        let split = |from: usize, width: usize| plan.narrow(1, from as i64, width as i64);
        let plan_actions = split(0, actions) * inputs.get("act_std")? + inputs.get("act_mean")?;
        let plan_observations = split(actions, entries - actions) * std + mean;
        let indices = Vec::<i64>::try_from(inputs.get("grad_i")?)?;
        let guided = |part: usize| -> Tensor {
            let of = |level: &i64| seen.guided.get(&(*level as usize)).map_or(&[][..], |parts| &parts[part]);
            Tensor::from_slice(&indices.iter().flat_map(of).copied().collect::<Vec<f32>>())
        };
        // Nothing was drawn for the last step, whose noise counts nothing.
        if taken != vec![levels; plans] {
            return Err(Error::Data(format!("{taken:?} draws a plan, expected {levels}")));
        }
        Ok(vec![
            ("x".into(), Tensor::from_slice(&seen.plans)),
            ("reward_y".into(), Tensor::from_slice(&seen.values[0])),
            ("cost_y".into(), Tensor::from_slice(&seen.values[1])),
            ("grad_reward".into(), guided(0)),
            ("grad_cost".into(), guided(1)),
            ("x_guided".into(), guided(2)),
            ("rank".into(), Tensor::from_slice(&values)),
            ("cost".into(), Tensor::from_slice(&costs)),
            ("best".into(), Tensor::from(best as i64)),
            ("action".into(), plan_actions.select(0, 0).to_kind(Kind::Float)),
            ("plan_actions".into(), plan_actions),
            ("plan_observations".into(), plan_observations),
        ])
    }
}
