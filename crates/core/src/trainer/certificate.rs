//! The end of a run: fitted Q evaluation, the estimates of every policy, and the certificate.

use super::{context, fqe_steps, Trainer};
use crate::algorithm::{Algorithm, Context, Metrics};
use crate::error::{Error, Result};
use crate::offline::{certify, Certificate, Evidence, Fqe, Judgement};
use crate::stage::{plan, Stage};
use drcorl_nn::profile;
use drcorl_nn::rng::Rng;
use std::sync::atomic::AtomicBool;

impl Trainer {
    pub(super) fn certificate_step(&mut self, cancel: &AtomicBool) -> Result<Metrics> {
        let mut policies = self.algorithm.policies()?;
        if policies.is_empty() {
            return Err(Error::Config("the algorithm keeps no policy".into()));
        }
        if self.phase_step < self.fqe_steps {
            let _fqe = profile::open("fitted Q evaluation");
            let policy = policies[0].policy.as_ref();
            let loss = self.fqe.step(self.phase_step, self.fqe_steps, policy, &self.data, &mut self.rng);
            return Ok(vec![("fqe_loss", loss)]);
        }
        // Rollouts first: they may be cancelled, and the critics' estimates draw from the generator.
        let judged = self.whole.as_ref().unwrap_or(&self.data);
        let mut judgements = Vec::new();
        for named in &policies {
            let _rollouts = profile::open("rollouts");
            judgements.push(self.auditor.estimate(judged, &self.run, named.policy.as_ref(), cancel)?);
        }
        let _verdict = profile::open("verdict");
        let mut evidence = Vec::new();
        for ((index, named), Judgement { estimates, shortage }) in policies.iter().enumerate().zip(judgements) {
            let mut context = context!(self, cancel);
            let policy = named.policy.as_ref();
            let costs = self.run.costs();
            let critics: Vec<_> =
                (0..costs).map(|cost| self.algorithm.critic_estimates(policy, cost, &mut context)).collect();
            let counts = index == 0 && self.fqe_steps > 0;
            let mut fqe = if counts { self.fqe.estimate(policy, &self.data) } else { Vec::new() }.into_iter();
            let mut estimates = estimates.into_iter();
            let by_cost = critics.into_iter().map(|critic_ucb| Evidence {
                remembers: policy.remembers(),
                model_rollout: estimates.next(),
                shortage,
                critic_ucb,
                fqe: fqe.next(),
            });
            evidence.push((named.name, by_cost.collect()));
        }
        let shipped = policies.swap_remove(0).policy;
        let mut context = context!(self, cancel);
        let diagnostics = self.algorithm.diagnostics(shipped.as_ref(), &mut context);
        let visits = self.visits.made();
        let judged = self.whole.as_ref().unwrap_or(&self.data);
        let mut certificate = certify(&evidence, &self.auditor, judged, &self.run, diagnostics, visits);
        certificate.notes.extend(self.algorithm.notes());
        self.certificate = Some(certificate);
        Ok(Vec::new())
    }

    /// Adds a certificate of another policy to the end of the run.
    pub(crate) fn judge_also(&mut self, other: &dyn Algorithm) -> Result<()> {
        let own = plan(0, Vec::new(), 0, fqe_steps(other, &self.run)? + 1);
        self.phases.extend(own);
        Ok(())
    }

    /// True where the next step is the first towards a certificate.
    pub(crate) fn judges_next(&self) -> bool {
        self.stage() == Some(Stage::Certificate) && self.phase_step == 0
    }

    /// The state of the generator.
    pub(crate) fn draws(&self) -> Rng {
        self.rng.clone()
    }

    /// Judges the policy of `algorithm` next, with fresh fitted Q evaluation and these draws.
    pub(crate) fn judge(&mut self, algorithm: Box<dyn Algorithm>, draws: Rng) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.rng = draws;
        self.fqe = Fqe::new(&self.data, self.run.costs(), &mut self.rng);
        self.fqe_steps = fqe_steps(algorithm.as_ref(), &self.run)?;
        self.algorithm = algorithm;
        Ok(())
    }

    /// The certificate, if one has been written since the last call.
    pub(crate) fn take_certificate(&mut self) -> Option<Certificate> {
        self.certificate.take()
    }

    /// The certificate, once the last phase has ended.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }
}
