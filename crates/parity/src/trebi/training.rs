//! One optimisation step of the denoiser and of the value nets, on recorded windows and draws.

use super::super::{Binding, Fixture, Plan, Record, Tensors};
use super::{diffusion, horizon, load, sizes, widths, NO_AVERAGE};
use drcorl_actor::planner::{cosine_schedule, Level};
use drcorl_algos::trebi::learner::{denoise, predict, value, Averaging, Learner};
use drcorl_algos::trebi::windows::sums_to_come;
use drcorl_algos::trebi::{Diffusion, Draws};
use drcorl_core::error::Result;
use drcorl_data::Episode;
use drcorl_nn::rng::Rng;
use drcorl_nn::{Arena, PlanNet, PlanValue, TemporalUnet};
use tch::{Device, Kind, Tensor};

/// Values or gradients of an arena under the fixture's names.
fn named(arena: &Arena, prefix: &str, gradients: bool) -> Record {
    let part = |name: &str| arena.named(name).map(|(value, gradient)| if gradients { gradient } else { value }.copy());
    arena.names().filter_map(|name| Some((format!("{prefix}.{name}"), part(name)?))).collect()
}

fn draws(of: &[Tensor], first: usize) -> Draws {
    Draws { levels: of[first].shallow_clone(), noise: of[first + 1].shallow_clone() }
}

struct Denoiser {
    learner: Learner<TemporalUnet>,
    diffusion: Diffusion,
    lr: f64,
    action_weight: f64,
    batches: usize,
}

pub fn bind_denoiser(fixture: &Fixture, _variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let number = |key: &str| fixture.hyper(&[key]);
    let averaging = Averaging {
        decay: number("ema_decay")?,
        interval: number("update_ema_every")? as u64,
        start: number("step_start_ema")? as u64,
    };
    let [_, entries] = sizes(fixture)?;
    let net = TemporalUnet::build(entries, &widths(fixture, "unet_mults")?, device, &mut Rng::new(0, 0));
    let mut learner = Learner::new(net, averaging);
    load(learner.arena_mut(), init, "model")?;
    learner.restart_average();
    Ok(Plan::Run(Box::new(Denoiser {
        learner,
        diffusion: diffusion(fixture, number("action_weight")?, device)?,
        lr: number("lr")?,
        action_weight: number("action_weight")?,
        batches: number("gradient_accumulate_every")? as usize,
    })))
}

impl Binding for Denoiser {
    fn formulas(&mut self, fixture: &Fixture) -> Result<Record> {
        let levels = cosine_schedule(fixture.hyper(&["n_timesteps"])? as usize);
        let table = |of: &dyn Fn(&Level) -> f64| Tensor::from_slice(&levels.iter().map(of).collect::<Vec<f64>>());
        let inputs = fixture.group("", "forward/in");
        let (x, t) = (inputs.get("x")?, inputs.get("t")?);
        let (net, arena) = (self.learner.net(), self.learner.arena());
        let schedule: [(&str, Tensor); 12] = [
            ("betas", table(&|l| l.beta)),
            ("alphas_cumprod", table(&|l| l.cumulative)),
            ("alphas_cumprod_prev", table(&|l| l.previous)),
            ("log_one_minus_alphas_cumprod", table(&|l| (1.0 - l.cumulative).ln())),
            ("posterior_variance", table(&Level::variance)),
            ("posterior_log_variance_clipped", table(&|l| l.clipped_variance().ln())),
            ("posterior_mean_coef1", table(&|l| l.posterior().0)),
            ("posterior_mean_coef2", table(&|l| l.posterior().1)),
            ("sqrt_alphas_cumprod", table(&|l| l.cumulative.sqrt())),
            ("sqrt_one_minus_alphas_cumprod", table(&|l| (1.0 - l.cumulative).sqrt())),
            ("sqrt_recip_alphas_cumprod", table(&|l| l.cumulative.sqrt().recip())),
            ("sqrt_recipm1_alphas_cumprod", table(&|l| (l.cumulative.recip() - 1.0).sqrt())),
        ];
        let mut record: Record = schedule.into_iter().map(|(name, x)| (format!("schedule/{name}"), x)).collect();
        record.push(("schedule/loss_weights".into(), self.diffusion.weights().copy()));
        record.push(("forward/out".into(), predict(net, arena, x, t)));
        record.push(("forward/out_time_mlp".into(), net.embed(&arena.leaf(false), t)));
        Ok(record)
    }

    fn step(&mut self, _step: usize, batch: &Tensors, of: &[Tensor]) -> Result<Record> {
        let batches = (0..self.batches)
            .map(|i| Ok((batch.get(&format!("traj_{i}"))?.shallow_clone(), draws(of, 2 * i))))
            .collect::<Result<Vec<_>>>()?;
        let mut record = Record::new();
        for (i, (plans, draws)) in batches.iter().enumerate() {
            let noisy = self.diffusion.noisy(plans, draws);
            let recon = predict(self.learner.net(), self.learner.arena(), &noisy, &draws.levels);
            record.push((format!("aux/x_noisy_{i}"), noisy));
            record.push((format!("aux/x_recon_{i}"), recon));
        }
        for (i, [total, first]) in denoise(&mut self.learner, &self.diffusion, &batches, self.lr).iter().enumerate() {
            record.push((format!("loss/total_{i}"), Tensor::from(*total)));
            // As logged there, divided by a weight it does not carry.
            record.push((format!("loss/a0_{i}"), Tensor::from(first / self.action_weight)));
        }
        record.extend(named(self.learner.arena(), "grad/model", true));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        let mut record = named(self.learner.arena(), "model", false);
        record.extend(named(self.learner.average(), "ema", false));
        record
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let (x, t) = (inputs.get("x")?, inputs.get("t")?);
        let run = |arena: &Arena| predict(self.learner.net(), arena, x, t);
        Ok(vec![("out".into(), run(self.learner.arena())), ("ema_out".into(), run(self.learner.average()))])
    }
}

struct Values {
    learner: Learner<PlanValue>,
    diffusion: Diffusion,
    lr: f64,
    target: String,
}

pub fn bind_values(fixture: &Fixture, variant: &str, init: &Tensors, device: Device) -> Result<Plan> {
    let [_, entries] = sizes(fixture)?;
    let size = [horizon(fixture)? as i64, entries];
    let net = PlanValue::build(size, &widths(fixture, "value_mults")?, device, &mut Rng::new(0, 0));
    let mut learner = Learner::new(net, NO_AVERAGE);
    load(learner.arena_mut(), init, "model")?;
    Ok(Plan::Run(Box::new(Values {
        learner,
        diffusion: diffusion(fixture, 1.0, device)?,
        lr: fixture.hyper(&["lr"])?,
        target: format!("value_{variant}"),
    })))
}

/// Sums to come at the windows of three padded episodes. What reading an item adds to the data, and so to the next
/// reading, is a fault that no preset has: `target/cost_repeated` is not reproduced.
fn targets(fixture: &Fixture) -> Result<Record> {
    let inputs = fixture.group("", "target/in");
    let whole = |name: &str| -> Result<Vec<i64>> { Ok(Vec::<i64>::try_from(&inputs.get(name)?.view([-1]))?) };
    let (lengths, terminated, index) = (whole("path_lengths")?, whole("terminated")?, whole("index")?);
    let padded = inputs.get("rewards")?.size()[1] as usize;
    let episode = |(number, (&length, &terminated)): (usize, (&i64, &i64))| {
        let start = number * padded;
        let end = start + length as usize;
        Episode { start, end, ret: 0.0, cost: 0.0, terminated: terminated == 1, complete: true }
    };
    let episodes: Vec<Episode> = lengths.iter().zip(&terminated).enumerate().map(episode).collect();
    let gamma = fixture.hyper(&["target_discount"])?;
    let of = |signal: &str, penalty: &str| -> Result<Tensor> {
        let values = super::numbers(inputs.get(signal)?)?;
        let sums = sums_to_come(&values, &episodes, gamma, fixture.hyper(&[penalty])?);
        let at = |pair: &[i64]| sums[pair[0] as usize * padded + pair[1] as usize];
        Ok(Tensor::from_slice(&index.chunks_exact(2).map(at).collect::<Vec<f32>>()))
    };
    Ok(vec![
        ("target/reward".into(), of("rewards", "target_reward_penalty")?),
        ("target/cost".into(), of("costs", "target_cost_penalty")?),
    ])
}

impl Binding for Values {
    fn formulas(&mut self, fixture: &Fixture) -> Result<Record> {
        let inputs = fixture.group("", "forward/in");
        let (net, leaf) = (self.learner.net(), self.learner.arena().leaf(false));
        let x = inputs.get("x")?.copy().set_requires_grad(true);
        let out = tch::with_grad(|| net.run(&leaf, &x, inputs.get("t").unwrap_or(&x)));
        let sum = tch::with_grad(|| out.sum(Kind::Float));
        let gradient = Tensor::run_backward(&[sum], &[&x], false, false).swap_remove(0);
        let mut record = targets(fixture)?;
        record.push(("forward/out".into(), out.detach()));
        record.push(("forward/grad_x".into(), gradient));
        Ok(record)
    }

    fn step(&mut self, _step: usize, batch: &Tensors, of: &[Tensor]) -> Result<Record> {
        let (plans, target) = (batch.get("traj")?, batch.get(&self.target)?);
        let noisy = self.diffusion.noisy(plans, &draws(of, 0));
        let prediction = predict(self.learner.net(), self.learner.arena(), &noisy, &of[0]);
        let batches = [(plans, target, draws(of, 0))];
        let loss = value(&mut self.learner, &self.diffusion, &batches, self.lr)[0];
        let mut record: Record = vec![
            ("aux/x_noisy".into(), noisy),
            ("aux/pred".into(), prediction),
            ("loss/total".into(), Tensor::from(loss)),
        ];
        record.extend(named(self.learner.arena(), "grad/model", true));
        Ok(record)
    }

    fn parameters(&self) -> Record {
        named(self.learner.arena(), "model", false)
    }

    fn evaluate(&mut self, inputs: &Tensors, _draws: &[Tensor]) -> Result<Record> {
        let out = predict(self.learner.net(), self.learner.arena(), inputs.get("x")?, inputs.get("t")?);
        Ok(vec![("out".into(), out)])
    }
}
