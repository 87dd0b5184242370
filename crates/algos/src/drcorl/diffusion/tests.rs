//! Everything about the diffusion that has a closed form.

use super::super::behavior::BehaviorModel;
use super::*;
use drcorl_nn::rng::Rng;
use drcorl_nn::score_net::ScoreNetShape;
use tch::{Device, Kind};

fn scalar(t: f64) -> (f64, f64) {
    let (alpha, sigma) = schedule(&Tensor::from_slice(&[t]));
    (alpha.double_value(&[0]), sigma.double_value(&[0]))
}

#[test]
fn the_schedule_matches_its_table() {
    let table = [
        (1e-3, 0.999945, 0.010485),
        (0.02, 0.997014, 0.077215),
        (0.1, 0.946722, 0.322053),
        (0.25, 0.723657, 0.690160),
        (0.5, 0.281183, 0.959654),
        (0.75, 0.058664, 0.998278),
        (0.98, 0.0080106, 0.999968),
        (1.0, 0.0065716, 0.999978),
    ];
    let mut last = (1.0, 0.0);
    for (t, alpha, sigma) in table {
        let found = scalar(t);
        assert!((found.0 - alpha).abs() < 1e-6 && (found.1 - sigma).abs() < 1e-6, "{t}: {found:?}");
        assert!((found.0.powi(2) + found.1.powi(2) - 1.0).abs() < 1e-12);
        assert!(found.0 < last.0 && found.1 > last.1);
        last = found;
    }
}

#[test]
fn diffused_samples_have_the_stated_moments() {
    let mut rng = Rng::new(2, 0);
    let n = 20_000;
    let action = Tensor::full([n, 1], 0.4f64, (Kind::Float, Device::Cpu));
    for t in [0.05, 0.3, 0.9] {
        let unit = Tensor::full([n], (t - 0.0) / 1.0, (Kind::Float, Device::Cpu));
        let draws = Draws { unit, noise: rng.normal(&[n, 1], Device::Cpu), action: None };
        let x = diffuse(&action, &draws, (0.0, 1.0)).noisy.to_kind(Kind::Double);
        let (alpha, sigma) = scalar(t);
        let (mean, std) = (x.mean(Kind::Double).double_value(&[]), x.std(true).double_value(&[]));
        let error = sigma / (n as f64).sqrt();
        assert!((mean - 0.4 * alpha).abs() < 4.0 * error);
        assert!((std - sigma).abs() < 4.0 * error / 2f64.sqrt());
    }
}

/// The exact denoiser of N(mean, std^2): sigma (x - alpha m) / (alpha^2 s^2 + sigma^2).
fn exact(x: &Tensor, time: &Tensor, mean: f64, std: f64) -> Tensor {
    let (alpha, sigma) = schedule(&time.unsqueeze(1));
    (x - &alpha * mean) * &sigma / (alpha.square() * (std * std) + sigma.square())
}

fn small(actions: i64) -> ScoreNetShape {
    ScoreNetShape { observations: 1, actions, hidden: 48, blocks: 2, expansion: 2 }
}

/// Trains a small model on actions made by `sample`, and returns it.
fn train(steps: u64, rng: &mut Rng, mut sample: impl FnMut(&mut Rng) -> (Tensor, Tensor)) -> BehaviorModel {
    let mut model = BehaviorModel::new(small(1), 0.0, 0.0, Device::Cpu, rng);
    for step in 0..steps {
        let (observation, action) = sample(rng);
        let rows = action.size()[0];
        let (unit, noise) = (rng.uniform(&[rows], Device::Cpu), rng.normal(&[rows, 1], Device::Cpu));
        model.step(
            &observation,
            &action,
            &Draws { unit, noise, action: None },
            &[],
            drcorl_nn::optim::cosine(3e-3, 1e-5, step, steps),
        );
    }
    model
}

/// Minimum of the loss by the closed form, and a trained network near it and near the exact denoiser.
#[test]
fn a_trained_denoiser_reaches_the_closed_form_minimum() {
    let (mean, std) = (0.3, 0.5);
    let mut rng = Rng::new(3, 0);
    let rows = 256;
    let model = train(1500, &mut rng, |rng| {
        (Tensor::zeros([rows, 1], (Kind::Float, Device::Cpu)), rng.normal(&[rows, 1], Device::Cpu) * std + mean)
    });
    let minimum: f64 = (0..4000)
        .map(|i| {
            let (alpha, sigma) = scalar(TRAIN_TIME_MIN + (1.0 - TRAIN_TIME_MIN) * (f64::from(i) + 0.5) / 4000.0);
            let signal = alpha * alpha * std * std;
            signal / (signal + sigma * sigma) / 4000.0
        })
        .sum();
    let n = 40_000;
    let action = rng.normal(&[n, 1], Device::Cpu) * std + mean;
    let noise = rng.normal(&[n, 1], Device::Cpu);
    let draws = Draws { unit: rng.uniform(&[n], Device::Cpu), noise: noise.shallow_clone(), action: None };
    let d = diffuse(&action, &draws, (TRAIN_TIME_MIN, 1.0));
    let zeros = Tensor::zeros([n, 1], (Kind::Float, Device::Cpu));
    let loss = |predicted: &Tensor| (predicted - &noise).square().mean(Kind::Double).double_value(&[]);
    let exact_loss = loss(&exact(&d.noisy, &d.time, mean, std));
    assert!((exact_loss / minimum - 1.0).abs() < 0.03, "{exact_loss} against {minimum}");
    let trained = model.predict(&d.noisy, &zeros, &d.time);
    assert!(loss(&trained) / minimum < 1.05, "{} against {minimum}", loss(&trained));
    let central = (&trained - exact(&d.noisy, &d.time, mean, std)).abs().mean(Kind::Double).double_value(&[]);
    assert!(central < 0.05, "{central}");
}

/// The score of a Gaussian mixture, and a mean that is linear in the observation.
#[test]
fn a_trained_denoiser_follows_a_conditional_mixture() {
    let (std, rows) = (0.2, 256);
    let mut rng = Rng::new(4, 0);
    let model = train(2500, &mut rng, |rng| {
        let observation = rng.uniform(&[rows, 1], Device::Cpu) * 2.0 - 1.0;
        let side = rng.uniform(&[rows, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float) * 1.2 - 0.6;
        let action = side + &observation * 0.3 + rng.normal(&[rows, 1], Device::Cpu) * std;
        (observation, action)
    });
    let n = 4000;
    let observation = rng.uniform(&[n, 1], Device::Cpu) * 2.0 - 1.0;
    for t in [0.1, 0.3, 0.6] {
        let side = rng.uniform(&[n, 1], Device::Cpu).lt(0.5).to_kind(Kind::Float) * 1.2 - 0.6;
        let action = side + &observation * 0.3 + rng.normal(&[n, 1], Device::Cpu) * std;
        let unit = Tensor::full([n], t, (Kind::Float, Device::Cpu));
        let draws = Draws { unit, noise: rng.normal(&[n, 1], Device::Cpu), action: None };
        let d = diffuse(&action, &draws, (0.0, 1.0));
        let variance = d.alpha.square() * (std * std) + d.sigma.square();
        let component = |m: f64| {
            let offset = &d.noisy - &d.alpha * (&observation * 0.3 + m);
            ((offset.square() / (&variance * -2.0)).exp(), offset)
        };
        let ((p1, o1), (p2, o2)) = (component(-0.6), component(0.6));
        let expected = &d.sigma * (&p1 * o1 + &p2 * o2) / ((p1 + p2) * variance);
        let error =
            (model.predict(&d.noisy, &observation, &d.time) - expected).abs().mean(Kind::Double).double_value(&[]);
        assert!(error < 0.1, "t = {t}: {error}");
    }
}

/// The sampler with the exact denoiser recovers the law; the published rule, which never re-noises, does not.
#[test]
fn the_sampler_recovers_a_gaussian() {
    let (mean, std, n) = (0.3, 0.5, 20_000);
    let start = Rng::new(5, 0).normal(&[n, 1], Device::Cpu).to_kind(Kind::Double);
    for steps in [20, 50] {
        let sample = super::sample(&start, steps, |x, t| exact(x, t, mean, std));
        assert!((sample.mean(Kind::Double).double_value(&[]) - mean).abs() < 0.02);
        assert!(
            (sample.std(true).double_value(&[]) / std - 1.0).abs() < 0.03,
            "{steps}: {}",
            sample.std(true).double_value(&[])
        );
    }
    let mut x = start.shallow_clone();
    for i in 0..20 {
        let time = Tensor::full([n], 1.0 - f64::from(i) * 0.0499, (Kind::Double, Device::Cpu));
        let (alpha, sigma) = schedule(&time.unsqueeze(1));
        x = (&x - exact(&x, &time, mean, std) * sigma) / alpha;
    }
    assert!((x.std(true).double_value(&[]) / std - 1.0).abs() > 0.2);
}

/// -eps/sigma is the derivative of the log density of the diffused law.
#[test]
fn the_score_identity_holds() {
    let (mean, std, t) = (0.3, 0.5, 0.05);
    let (alpha, sigma) = scalar(t);
    let variance = alpha * alpha * std * std + sigma * sigma;
    let log_density = |x: f64| -(x - alpha * mean).powi(2) / (2.0 * variance);
    for x in [-0.5, 0.1, 0.9] {
        let numeric = (log_density(x + 1e-5) - log_density(x - 1e-5)) / 2e-5;
        let point = Tensor::from_slice(&[x]).unsqueeze(1);
        let eps = exact(&point, &Tensor::from_slice(&[t]), mean, std).double_value(&[0, 0]);
        assert!((numeric + eps / sigma).abs() < 1e-6);
    }
}

/// Training leaves the frequencies alone.
#[test]
fn frequencies_are_frozen() {
    let mut rng = Rng::new(7, 0);
    let mut model = BehaviorModel::new(small(2), 0.1, 0.01, Device::Cpu, &mut rng);
    let before = model.frequencies_mut().copy();
    let (s, a) = (rng.normal(&[8, 1], Device::Cpu), rng.normal(&[8, 2], Device::Cpu));
    let dropout = model.draw_dropout(&mut rng);
    assert_eq!(dropout.len(), 2);
    let (unit, noise) = (rng.uniform(&[8], Device::Cpu), rng.normal(&[8, 2], Device::Cpu));
    model.step(&s, &a, &Draws { unit, noise, action: None }, &dropout, 1e-2);
    assert_eq!(&before, model.frequencies_mut());
}

const KAPPA: [(f64, f64, f64, f64); 5] = [
    (0.05, 0.23401, 0.88921, 3.36081),
    (0.10, 0.23006, 0.78942, 2.60673),
    (0.25, 0.21347, 0.56833, 1.32496),
    (0.50, 0.18490, 0.38790, 0.63958),
    (1.00, 0.14107, 0.23565, 0.26671),
];

/// The expected pull equals kappa (a - m) with and without control variate, whose variance is far smaller.
#[test]
fn the_regulariser_pulls_with_strength_kappa() {
    let mut rng = Rng::new(8, 0);
    let (mean, offset, n) = (0.0, 0.3, 1_000_000);
    let unit = rng.uniform(&[n], Device::Cpu);
    let noise = rng.normal(&[n, 1], Device::Cpu);
    let action = Tensor::full([n, 1], mean + offset, (Kind::Float, Device::Cpu));
    let draws = Draws { unit, noise: noise.shallow_clone(), action: None };
    let d = diffuse(&action, &draws, POLICY_TIME);
    for (std, vds, stable, score) in KAPPA {
        for (weight, kappa) in [(ScoreWeight::Vds, vds), (ScoreWeight::Stable, stable), (ScoreWeight::Score, score)] {
            assert!((weight.kappa(std) / kappa - 1.0).abs() < 2e-3, "{weight:?} {std}: {}", weight.kappa(std));
            let w = weight.at(&d.alpha, &d.sigma);
            let plain = &w * exact(&d.noisy, &d.time, mean, std);
            let controlled = &plain - &w * &noise;
            let moments = |x: &Tensor| (x.mean(Kind::Double).double_value(&[]), x.var(true).double_value(&[]));
            let ((m0, v0), (m1, v1)) = (moments(&plain), moments(&controlled));
            assert!((m1 / (kappa * offset) - 1.0).abs() < 0.01, "{weight:?} {std}: {m1}");
            assert!((m0 - m1).abs() < 5.0 * (v0 / n as f64).sqrt());
            if std <= 0.5 && weight == ScoreWeight::Vds {
                assert!(v0 / v1 > 50.0, "{weight:?} {std}: {}", v0 / v1);
            }
        }
    }
}

/// With a linear critic of slope G the fixed point of the update is m + beta G / kappa.
#[test]
fn the_stationary_point_is_known() {
    let mut rng = Rng::new(9, 0);
    let (mean, std, beta, slope) = (0.1, 0.25, 0.1, 0.5);
    for weight in [ScoreWeight::Vds, ScoreWeight::Stable, ScoreWeight::Score] {
        let kappa = weight.kappa(std);
        let mut action = 0.0;
        let n = 20_000;
        let mut average = 0.0;
        for i in 0..120 {
            let a = Tensor::full([n, 1], action, (Kind::Float, Device::Cpu));
            let noise = rng.normal(&[n, 1], Device::Cpu);
            let draws = Draws { unit: rng.uniform(&[n], Device::Cpu), noise: noise.shallow_clone(), action: None };
            let d = diffuse(&a, &draws, POLICY_TIME);
            let residual = weight.at(&d.alpha, &d.sigma) * (exact(&d.noisy, &d.time, mean, std) - noise);
            action -= (residual.mean(Kind::Double).double_value(&[]) - beta * slope) * 0.5 / kappa;
            if i >= 40 {
                average += action / 80.0;
            }
        }
        let expected = mean + beta * slope / kappa;
        assert!((average / expected - 1.0).abs() < 0.01, "{weight:?}: {average} against {expected}");
    }
}
