//! Slices of episodes as the network reads them.

use tch::{Device, Kind, Tensor};

/// B slices of K steps, padded at the end with zeros.
pub struct Sequences {
    /// `[B,K,S]`, normalised.
    pub states: Tensor,
    /// `[B,K,A]`, in the normalised box.
    pub actions: Tensor,
    /// `[B,K]`, scaled returns to go.
    pub returns: Tensor,
    /// `[B,K]`, scaled costs to go.
    pub costs_to_go: Tensor,
    /// `[B,K] int64`, number of the step in its episode.
    pub time_steps: Tensor,
    /// `[B,K]`, cost of the step, raw.
    pub costs: Tensor,
    /// `[B]`, scaled cost of the episode.
    pub episode_cost: Tensor,
    /// `[B]`, steps that are no padding, at least 1.
    pub lengths: Vec<usize>,
}

impl Sequences {
    /// `count` of the sequences from number `from` on; views.
    pub fn part(&self, from: usize, count: usize) -> Sequences {
        let part = |x: &Tensor| x.narrow(0, from as i64, count as i64);
        Sequences {
            states: part(&self.states),
            actions: part(&self.actions),
            returns: part(&self.returns),
            costs_to_go: part(&self.costs_to_go),
            time_steps: part(&self.time_steps),
            costs: part(&self.costs),
            episode_cost: part(&self.episode_cost),
            lengths: self.lengths[from..from + count].to_vec(),
        }
    }

    /// 1 where a step is no padding, `[B,K]`.
    pub fn mask(&self) -> Tensor {
        mask(&self.lengths, self.states.size()[1], self.states.device())
    }
}

/// 1 for the first `lengths` of `context` positions, `[B,K]`.
pub fn mask(lengths: &[usize], context: i64, device: Device) -> Tensor {
    let lengths: Vec<i64> = lengths.iter().map(|&n| n as i64).collect();
    let lengths = Tensor::from_slice(&lengths).to_device(device).unsqueeze(1);
    Tensor::arange(context, (Kind::Int64, device)).unsqueeze(0).lt_tensor(&lengths).to_kind(Kind::Float)
}
