//! The steps of the OSRL baselines as their preset `osrl` makes them, batch 512, beside plain versions.

use crate::plain::Group;
use crate::{column, flop, Step, ACTIONS, STATES};
use drcorl_algos::bc::regress;
use drcorl_algos::bcq_lag::{BcqDraws, BcqLag, BcqLagConfig};
use drcorl_algos::bear_lag::{BearDraws, BearLag, BearLagConfig};
use drcorl_algos::coptidice::divergence::Divergence;
use drcorl_algos::coptidice::{Coptidice, CoptidiceConfig, CoptidiceDraws, Initial, Scales};
use drcorl_algos::cpq::{Cpq, CpqConfig, CpqDraws};
use drcorl_algos::critics::{join, mean, Critics};
use drcorl_algos::frame::{repeat, ActorCritic, Task, Transition};
use drcorl_core::policy::Policy;
use drcorl_nn::gaussian::kl;
use drcorl_nn::rng::Rng;
use drcorl_nn::vae::clip_latents;
use drcorl_nn::{Arena, Head, SquashedActor, Vae};
use tch::{Device, Kind, Tensor};

const ROWS: i64 = 512;
const LATENTS: i64 = 2 * ACTIONS;
const INPUTS: i64 = ACTIONS + STATES;
const THRESHOLD: f64 = 3.17;
const GAMMA: f64 = 0.99;
const RATE: f64 = 0.005;
const LAMBDA: f64 = 0.75;
/// Samples a state in the targets.
const N: i64 = 10;
/// Operations of one pass (forward, forward and backward) of the networks of the presets.
const VAE_HIDDEN: i64 = 400;

pub fn task(device: Device) -> Task {
    Task {
        observations: STATES,
        actions: ACTIONS,
        cost_limit: 10.0,
        episode_length: 200,
        threshold: THRESHOLD,
        seed: 0,
        device,
    }
}

pub fn transition(device: Device, rng: &mut Rng) -> Transition {
    let table = rng.normal(&[ROWS, INPUTS + STATES + 3], device);
    let part = |from: i64, width: i64| column(&table, from, width).contiguous();
    let observation = part(ACTIONS, STATES);
    let reward_stop = part(INPUTS + STATES + 2, 1).gt(2.0).to_kind(Kind::Float);
    Transition {
        state_action: join(&part(0, ACTIONS).tanh(), &observation),
        next_observation: part(INPUTS, STATES),
        reward: part(INPUTS + STATES, 1),
        cost: part(INPUTS + STATES + 1, 1).gt(1.0).to_kind(Kind::Float),
        cost_stop: reward_stop.zeros_like(),
        reward_stop,
        observation,
    }
}

/// A batch, and its tensors again.
fn transitions(device: Device, rng: &mut Rng) -> (Transition, Transition) {
    let batch = transition(device, rng);
    let again = views(&batch);
    (batch, again)
}

/// Plain copies of the critics of reward and cost.
fn critic_groups(reward: &Critics, cost: &Critics, device: Device) -> [Group; 2] {
    [(reward, "reward"), (cost, "cost")].map(|(critics, name)| group(&critics.head, name, 1e-3, device))
}

/// The same tensors again.
pub fn views(batch: &Transition) -> Transition {
    let view = Tensor::shallow_clone;
    Transition {
        state_action: view(&batch.state_action),
        observation: view(&batch.observation),
        next_observation: view(&batch.next_observation),
        reward: view(&batch.reward),
        cost: view(&batch.cost),
        reward_stop: view(&batch.reward_stop),
        cost_stop: view(&batch.cost_stop),
    }
}

pub fn group(head: &Head, name: &str, lr: f64, device: Device) -> Group {
    Group::copy_of(head.online(), head.target(), name, head.members(), lr, device)
}

fn critics_flop(rows: i64, members: f64) -> (f64, f64) {
    let (forward, both) = flop(rows, &[INPUTS, 256, 256, 1]);
    (members * forward, members * both)
}

fn decoder_flop(rows: i64) -> (f64, f64) {
    flop(rows, &[LATENTS + STATES, VAE_HIDDEN, VAE_HIDDEN, ACTIONS])
}

fn encoder_flop(rows: i64) -> (f64, f64) {
    flop(rows, &[INPUTS, VAE_HIDDEN, VAE_HIDDEN, 2 * LATENTS])
}

/// Encoder and decoder as two modules; their two optimisers act element by element, as one would.
struct PlainVae {
    encoder: Group,
    decoder: Group,
}

impl PlainVae {
    fn copy_of(vae: &Vae, lr: f64, device: Device) -> Self {
        let half = |arena: &Arena, name: &str| Group::copy_of(arena, arena, name, 1, lr, device);
        PlainVae { encoder: half(vae.arena(), "encoder"), decoder: half(vae.arena(), "decoder") }
    }

    fn encode(&self, state_action: &Tensor) -> (Tensor, Tensor) {
        let output = self.encoder.values(state_action);
        (output.narrow(1, 0, LATENTS), output.narrow(1, LATENTS, LATENTS).clamp(-4.0, 15.0))
    }

    fn raw(&self, latent: &Tensor, observation: &Tensor) -> Tensor {
        self.decoder.values(&Tensor::cat(&[latent, observation], 1))
    }

    fn step(&mut self, batch: &Transition, noise: &Tensor) -> f64 {
        let (mean, log_std) = self.encode(&batch.state_action);
        let decoded = self.raw(&(&mean + log_std.exp() * noise), &batch.observation).tanh();
        let loss = (decoded - batch.state_action.narrow(1, 0, ACTIONS)).square().mean(Kind::Float)
            + kl(&mean, &log_std).mean(Kind::Float) * 0.5;
        self.encoder.optimizer.zero_grad();
        self.decoder.optimizer.zero_grad();
        loss.backward();
        self.encoder.optimizer.step();
        self.decoder.optimizer.step();
        loss.double_value(&[])
    }
}

/// Sum over members of the mean squared error, one step.
fn fit(group: &mut Group, input: &Tensor, target: &Tensor) -> f64 {
    let loss = (group.values(input) - target).square().mean_dim(0i64, false, Kind::Float).sum(Kind::Float);
    group.optimizer.backward_step(&loss);
    loss.double_value(&[])
}

/// BCQ's target value of `N` candidates a state.
fn soft_target(group: &Group, candidates: &Tensor) -> Tensor {
    let values = group.lagged_values(candidates).view([-1, 2, 2]).amin(2i64, false);
    let mixed = values.amin(1i64, false) * LAMBDA + values.amax(1i64, false) * (1.0 - LAMBDA);
    mixed.view([ROWS, N]).amax(1i64, true)
}

fn sum_of(step: f64, others: [f64; 3]) -> f64 {
    step + others.iter().sum::<f64>()
}

/// Behavior cloning.
pub fn bc(device: Device) -> Step {
    let mut rng = Rng::new(2, 0);
    let mut policy = Policy::new(STATES, ACTIONS, &[256, 256], false, device, &mut rng);
    let mut plain = Group::copy_of(policy.arena(), policy.arena(), "policy", 1, 1e-3, device);
    let batch = transition(device, &mut rng);
    let (observation, action) = (batch.observation.shallow_clone(), batch.state_action.narrow(1, 0, ACTIONS));
    let again = (observation.shallow_clone(), action.shallow_clone());
    Step {
        flop: flop(ROWS, &[STATES, 256, 256, ACTIONS]).1,
        ours: Box::new(move || tch::no_grad(|| regress(&mut policy, &observation, &action, 1e-3))),
        plain: Box::new(move || {
            let loss = (plain.values(&again.0).tanh() - &again.1).square().mean(Kind::Float);
            plain.optimizer.backward_step(&loss);
            loss.double_value(&[])
        }),
    }
}

/// BCQ-Lag.
pub fn bcq_lag(device: Device) -> Step {
    let mut rng = Rng::new(3, 0);
    let config = BcqLagConfig::osrl();
    let mut ours = BcqLag::new(config, task(device), &mut rng);
    let mut vae = PlainVae::copy_of(&ours.vae, 1e-3, device);
    let mut actor = group(&ours.actor, "actor", 1e-3, device).with_tanh();
    let [mut reward, mut cost] = critic_groups(&ours.reward, &ours.cost, device);
    let mut pid = ours.pid.clone();
    let (batch, again) = transitions(device, &mut rng);
    let mut draw = |rows: i64| rng.normal(&[rows, LATENTS], device);
    let draws = BcqDraws { vae: draw(ROWS), reward: draw(N * ROWS), cost: Some(draw(N * ROWS)), actor: draw(ROWS) };
    let noise =
        [&draws.vae, &draws.reward, draws.cost.as_ref().expect("drawn above"), &draws.actor].map(Tensor::shallow_clone);
    let perturbation = [INPUTS, 256, 256, ACTIONS];
    let (critic, target) = (critics_flop(ROWS, 4.0), critics_flop(N * ROWS, 4.0));
    let flop = encoder_flop(ROWS).1
        + decoder_flop(ROWS).1
        + 2.0 * (decoder_flop(N * ROWS).0 + flop(N * ROWS, &perturbation).0 + target.0 + critic.1)
        + decoder_flop(ROWS).0
        + flop(ROWS, &perturbation).1
        + 4.0 * critic.0;
    Step {
        flop,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch, &draws)).expect("shapes fit");
            sum_of(step.vae.loss, [step.reward_loss, step.cost_loss, step.actor.loss])
        }),
        plain: Box::new(move || {
            let batch = &again;
            let vae_loss = vae.step(batch, &noise[0]);
            let next = repeat(&batch.next_observation, N);
            let sampled = |vae: &PlainVae, actor: &Group, draw: &Tensor| {
                tch::no_grad(|| {
                    let decoded = vae.raw(&clip_latents(draw), &next).tanh();
                    let shift = actor.lagged_values(&join(&decoded, &next)).tanh();
                    join(&(decoded + shift * 0.05).clamp(-1.0, 1.0), &next)
                })
            };
            let value = soft_target(&reward, &sampled(&vae, &actor, &noise[1]));
            let alive: Tensor = 1.0 - &batch.reward_stop;
            let reward_loss = fit(&mut reward, &batch.state_action, &(&batch.reward + alive * value * GAMMA));
            let value = soft_target(&cost, &sampled(&vae, &actor, &noise[2]));
            let cost_loss = fit(&mut cost, &batch.state_action, &(&batch.cost + value * GAMMA));
            let decoded = tch::no_grad(|| vae.raw(&clip_latents(&noise[3]), &batch.observation).tanh());
            let shift = actor.values(&join(&decoded, &batch.observation)).tanh();
            let input = join(&(decoded + shift * 0.05).clamp(-1.0, 1.0), &batch.observation);
            let q = reward.frozen(|reward| reward.values(&input).amin(1i64, true));
            let qc = cost.frozen(|cost| cost.values(&input).amin(1i64, true));
            let multiplier = pid.update(mean(&qc));
            let loss = (qc - THRESHOLD).mean(Kind::Float) * multiplier - q.mean(Kind::Float);
            actor.optimizer.backward_step(&loss);
            [&mut reward, &mut cost, &mut actor].into_iter().for_each(|group| group.follow(RATE));
            sum_of(vae_loss, [reward_loss, cost_loss, loss.double_value(&[])])
        }),
    }
}

/// Mean and log deviation of the plain actor.
pub fn gaussian(output: &Tensor) -> (Tensor, Tensor) {
    (output.narrow(1, 0, ACTIONS), output.narrow(1, ACTIONS, ACTIONS).clamp(-20.0, 2.0))
}

fn plain_actor(actor: &SquashedActor, lr: f64, device: Device) -> Group {
    group(&actor.head, "actor", lr, device)
}

/// BEAR-Lag.
pub fn bear_lag(device: Device) -> Step {
    let mut rng = Rng::new(4, 0);
    let config = BearLagConfig::osrl();
    let (sigma, threshold) = (config.mmd_sigma, config.mmd_threshold);
    let mut ours = BearLag::new(config, task(device), &mut rng);
    let mut vae = PlainVae::copy_of(&ours.vae, 1e-3, device);
    let mut actor = plain_actor(&ours.actor, 1e-3, device);
    let [mut reward, mut cost] = critic_groups(&ours.reward, &ours.cost, device);
    let (mut pid, mut alpha) = (ours.pid.clone(), ours.alpha);
    let (batch, again) = transitions(device, &mut rng);
    let mut draw = |shape: &[i64]| rng.normal(shape, device);
    let draws = BearDraws {
        vae: draw(&[ROWS, LATENTS]),
        reward: draw(&[ROWS, N, ACTIONS]),
        cost: Some(draw(&[ROWS, N, ACTIONS])),
        latents: draw(&[ROWS, N, LATENTS]),
        policy: draw(&[ROWS, N, ACTIONS]),
    };
    let noise = [&draws.vae, &draws.reward, draws.cost.as_ref().expect("drawn above"), &draws.latents, &draws.policy]
        .map(Tensor::shallow_clone);
    let actor_widths = [STATES, 256, 256, 2 * ACTIONS];
    let (critic, target) = (critics_flop(ROWS, 4.0), critics_flop(N * ROWS, 4.0));
    let flop = encoder_flop(ROWS).1
        + decoder_flop(ROWS).1
        + 2.0 * (target.0 + critic.1)
        + decoder_flop(N * ROWS).0
        + flop(ROWS, &actor_widths).0
        + flop(ROWS, &actor_widths).1
        + 4.0 * critic.0;
    Step {
        flop,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch, &draws)).expect("shapes fit");
            sum_of(step.vae.loss, [step.reward_loss, step.cost_loss, step.actor.loss])
        }),
        plain: Box::new(move || {
            let batch = &again;
            let vae_loss = vae.step(batch, &noise[0]);
            let next = repeat(&batch.next_observation, N);
            let sampled = |actor: &Group, draw: &Tensor| {
                let (mu, log_std) = gaussian(&actor.lagged_values(&next));
                join(&(mu + log_std.exp() * draw.view([-1, ACTIONS])).tanh(), &next)
            };
            let value = soft_target(&reward, &sampled(&actor, &noise[1]));
            let alive: Tensor = 1.0 - &batch.reward_stop;
            let reward_loss = fit(&mut reward, &batch.state_action, &(&batch.reward + alive * value * GAMMA));
            let value = soft_target(&cost, &sampled(&actor, &noise[2]));
            let cost_loss = fit(&mut cost, &batch.state_action, &(&batch.cost + value * GAMMA));
            let states = repeat(&batch.observation, N);
            let latents = clip_latents(&noise[3].view([-1, LATENTS]));
            let v = tch::no_grad(|| vae.raw(&latents, &states)).view([ROWS, N, ACTIONS]);
            let (mu, log_std) = gaussian(&actor.values(&states));
            let u = (mu + log_std.exp() * noise[4].view([-1, ACTIONS])).view([ROWS, N, ACTIONS]);
            let kernel = |x: &Tensor, y: &Tensor| {
                let distance = (x.unsqueeze(2) - y.unsqueeze(1)).square().sum_dim_intlist(3i64, false, Kind::Float);
                (distance * (-0.5 / sigma)).exp().mean_dim([1i64, 2].as_slice(), false, Kind::Float)
            };
            let mmd = (kernel(&v, &v) + kernel(&u, &u) - kernel(&v, &u) * 2.0 + 1e-6).sqrt();
            let input = join(&u.select(1, 0).tanh(), &batch.observation);
            let q = reward.frozen(|reward| reward.values(&input).amin(1i64, true));
            let qc = cost.frozen(|cost| cost.values(&input).amin(1i64, true));
            let multiplier = pid.update(mean(&qc));
            let violation: Tensor = mmd.mean(Kind::Float) - threshold;
            let loss =
                &violation * alpha.value() - q.mean(Kind::Float) + (qc - THRESHOLD).mean(Kind::Float) * multiplier;
            actor.optimizer.backward_step(&loss);
            alpha.ascend(violation.double_value(&[]), 1e-3);
            [&mut reward, &mut cost, &mut actor].into_iter().for_each(|group| group.follow(RATE));
            sum_of(vae_loss, [reward_loss, cost_loss, loss.double_value(&[])])
        }),
    }
}

/// CPQ.
pub fn cpq(device: Device) -> Step {
    let mut rng = Rng::new(5, 0);
    let config = CpqConfig::osrl();
    let mut ours = Cpq::new(config, task(device), &mut rng);
    let mut vae = PlainVae::copy_of(&ours.vae, 1e-3, device);
    let mut actor = plain_actor(&ours.actor, 1e-4, device);
    let [mut reward, mut cost] = critic_groups(&ours.reward, &ours.cost, device);
    let mut alpha = ours.alpha;
    let (batch, again) = transitions(device, &mut rng);
    let mut draw = |shape: &[i64]| rng.normal(shape, device);
    let draws = CpqDraws {
        vae: draw(&[ROWS, LATENTS]),
        reward: draw(&[ROWS, ACTIONS]),
        cost: draw(&[ROWS, ACTIONS]),
        ood: draw(&[N, ROWS, ACTIONS]),
        actor: draw(&[ROWS, ACTIONS]),
    };
    let noise = [&draws.vae, &draws.reward, &draws.cost, &draws.ood, &draws.actor].map(Tensor::shallow_clone);
    let actor_widths = [STATES, 256, 256, 2 * ACTIONS];
    let (critic, target) = (critics_flop(ROWS, 2.0), critics_flop(N * ROWS, 2.0));
    let flop = encoder_flop(ROWS).1
        + decoder_flop(ROWS).1
        + 2.0 * flop(ROWS, &actor_widths).0
        + flop(ROWS, &actor_widths).1
        + 6.0 * critic.0
        + 2.0 * critic.1
        + target.0
        + encoder_flop(N * ROWS).0;
    Step {
        flop,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch, &draws)).expect("shapes fit");
            sum_of(step.vae.loss, [step.reward_loss, step.cost_loss, step.actor_loss])
        }),
        plain: Box::new(move || {
            let batch = &again;
            let vae_loss = vae.step(batch, &noise[0]);
            let next = |actor: &Group, draw: &Tensor| {
                tch::no_grad(|| {
                    let (mu, log_std) = gaussian(&actor.values(&batch.next_observation));
                    join(&(mu + log_std.exp() * draw).tanh(), &batch.next_observation)
                })
            };
            let lowest = |group: &Group, input: &Tensor| group.lagged_values(input).amin(1i64, true);
            let input = next(&actor, &noise[1]);
            let value = lowest(&reward, &input) * lowest(&cost, &input).le(THRESHOLD).to_kind(Kind::Float);
            let alive: Tensor = 1.0 - &batch.reward_stop;
            let reward_loss = fit(&mut reward, &batch.state_action, &(&batch.reward + alive * value * GAMMA));
            let value = lowest(&cost, &next(&actor, &noise[2]));
            let penalty = tch::no_grad(|| {
                let (mu, log_std) = gaussian(&actor.values(&batch.observation));
                let raw = (log_std.exp() * &noise[3] + mu).view([-1, ACTIONS]);
                let input = join(&raw, &batch.observation.repeat([N, 1]));
                let values = lowest(&cost, &input);
                let (mean, log_std) = vae.encode(&input);
                let distance = kl(&mean, &log_std);
                let flagged = distance.ge_tensor(&distance.quantile_scalar(0.75, None, false, "linear"));
                (values * flagged.to_kind(Kind::Float)).mean(Kind::Double).double_value(&[])
            });
            let cost_loss = fit(&mut cost, &batch.state_action, &(&batch.cost + value * GAMMA))
                - alpha.value() * (penalty - 1.5 * THRESHOLD);
            alpha.ascend(1.5 * THRESHOLD - penalty, 1e-4);
            let (mu, log_std) = gaussian(&actor.values(&batch.observation));
            let input = join(&(mu + log_std.exp() * &noise[4]).tanh(), &batch.observation);
            let q = reward.frozen(|reward| reward.values(&input).amin(1i64, true));
            let qc = tch::no_grad(|| cost.values(&input).amin(1i64, true));
            let loss = -(q * qc.le(THRESHOLD).to_kind(Kind::Float)).mean(Kind::Float);
            actor.optimizer.backward_step(&loss);
            [&mut reward, &mut cost].into_iter().for_each(|group| group.follow(RATE));
            sum_of(vae_loss, [reward_loss, cost_loss, loss.double_value(&[])])
        }),
    }
}

/// COptiDICE.
pub fn coptidice(device: Device) -> Step {
    let mut rng = Rng::new(6, 0);
    let config = CoptidiceConfig::osrl();
    let (alpha, share) = (config.alpha, 0.2);
    assert_eq!(config.divergence, Divergence::Softchi, "which is written out below");
    let softchi =
        |w: &Tensor| (w * ((w + 1e-10).log() - 1.0) + 1.0).where_self(&w.lt(1.0), &((w - 1.0).square() * 0.5));
    let scales = Scales {
        limit: THRESHOLD,
        unit: 1.0,
        initial_share: share,
        observation_std: Tensor::ones([1, STATES], (Kind::Float, device)),
        action_std: Tensor::ones([1, ACTIONS], (Kind::Float, device)),
    };
    let mut ours = Coptidice { scales, ..Coptidice::new(config, task(device), &mut rng) };
    let (mut nu, mut chi) = (group(&ours.nu, "nu", 1e-4, device), group(&ours.chi, "chi", 1e-4, device));
    let mut actor = plain_actor(&ours.actor, 1e-4, device);
    let scalar = || Tensor::ones([1], (Kind::Float, device)).set_requires_grad(true);
    let (raw_tau, raw_lambda) = (scalar(), scalar());
    let (batch, again) = transitions(device, &mut rng);
    let flags = rng.normal(&[ROWS, 1], device).gt(0.8).to_kind(Kind::Float);
    let draws = CoptidiceDraws {
        initial: Initial::Flags(flags.shallow_clone()),
        observation: rng.normal(&[ROWS, STATES], device),
        action: rng.normal(&[ROWS, ACTIONS], device),
    };
    let noise = [&draws.observation, &draws.action].map(Tensor::shallow_clone);
    let (state, actor_widths) = ([STATES, 256, 256, 1], [STATES, 256, 256, 2 * ACTIONS]);
    let (forward, both) = flop(2 * ROWS, &state);
    // A row goes back through the lower one of two members: half of the rows through each.
    let flop = 2.0 * (2.0 * (forward + (both - forward) / 2.0) + forward) + flop(ROWS, &actor_widths).1;
    Step {
        flop,
        ours: Box::new(move || {
            let step = tch::no_grad(|| ours.learn(&batch, &draws)).expect("shapes fit");
            sum_of(step.nu_loss, [step.bound.chi_loss, step.lambda_loss, step.actor_loss])
        }),
        plain: Box::new(move || {
            let batch = &again;
            let lowest = |group: &Group, states: &Tensor| group.values(states).amin(1i64, true);
            let (lambda, tau) = (raw_lambda.softplus(), raw_tau.softplus());
            let alive: Tensor = (1.0 - &batch.reward_stop) * GAMMA;
            let ratio = |nu: &Group| {
                let (here, next) = (lowest(nu, &batch.observation), lowest(nu, &batch.next_observation));
                let e = &batch.reward - &batch.cost * lambda.detach() + &alive * next - &here;
                let scaled = &e / alpha;
                let w = scaled.clamp_max(0.0).exp().where_self(&scaled.lt(0.0), &(&scaled + 1.0)).relu();
                (here, e, w)
            };
            let (here, e, w) = ratio(&nu);
            let (chi_here, chi_next) = (lowest(&chi, &batch.observation), lowest(&chi, &batch.next_observation));
            let residual = &chi_here * &flags * ((1.0 - GAMMA) / share)
                + w.detach() * (&batch.cost + &alive * chi_next - &chi_here);
            let log_weight = (&residual / tau.detach()).log_softmax(0, Kind::Float) + (ROWS as f64).ln();
            let weight = log_weight.exp();
            let chi_loss = (&weight * &residual).mean(Kind::Float);
            let distance = (&weight * &log_weight - &weight + 1.0).mean(Kind::Float).detach();
            let bound = (&weight * &w * &batch.cost).mean(Kind::Float).detach();
            chi.optimizer.backward_step(&chi_loss);
            // Both scalars are left to gradients alone: their two optimisers cost nothing beside the networks.
            let excess: Tensor = 0.01 - distance;
            (&tau * excess).sum(Kind::Float).backward();
            let nu_loss = (here * &flags / share).mean(Kind::Float) * (1.0 - GAMMA)
                + (&w * &e - softchi(&w) * alpha).mean(Kind::Float);
            nu.optimizer.backward_step(&nu_loss);
            let slack: Tensor = THRESHOLD - bound;
            let lambda_loss = (&lambda * slack).sum(Kind::Float);
            lambda_loss.backward();
            let w = tch::no_grad(|| ratio(&nu).2);
            let (mu, log_std) = gaussian(&actor.values(&(&batch.observation + &noise[0] * 0.1)));
            let target = batch.state_action.narrow(1, 0, ACTIONS) + &noise[1] * 0.1;
            let normal = (target - mu) * (-&log_std).exp();
            let density = normal.square() * -0.5 - log_std - 0.5 * (2.0 * std::f64::consts::PI).ln();
            let actor_loss = -(w * density.sum_dim_intlist(1i64, true, Kind::Float)).mean(Kind::Float);
            actor.optimizer.backward_step(&actor_loss);
            let value = |loss: &Tensor| loss.double_value(&[]);
            sum_of(value(&nu_loss), [value(&chi_loss), value(&lambda_loss), value(&actor_loss)])
        }),
    }
}
