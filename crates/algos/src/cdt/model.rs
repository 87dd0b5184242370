//! The network: tokens in, distribution of the action, class of the cost and next state out, and the gradient back.

use super::config::{ActionHead, CdtConfig, CostFeature, CostTransform};
use super::sequences::Sequences;
use drcorl_nn::buffers::Buffers;
use drcorl_nn::rng::Rng;
use drcorl_nn::transformer::{Pass, TransformerCache, INITIAL_STD};
use drcorl_nn::{ops, Arena, ArenaBuilder, Dense, Slot, Transformer, TransformerShape};
use tch::{Device, Kind, Tensor};

/// Tokens of a step, in this order: return to go, cost to go, state, action.
pub const STEP_TOKENS: usize = 4;
const STATE: i64 = 2;
const ACTION: i64 = 3;

/// The layout of the network.
pub struct Model {
    pub(super) context: usize,
    cost_feature: CostFeature,
    cost_transform: CostTransform,
    time: Slot,
    embeddings: [Dense; STEP_TOKENS],
    prefix: Option<Dense>,
    transformer: Transformer,
    action_hidden: Vec<Dense>,
    /// Mean and logarithm of the standard deviation, or the action alone.
    action_out: Vec<Dense>,
    state_out: Dense,
    cost_out: Dense,
}

/// What the heads say about N = B*K steps.
pub struct Outputs {
    /// Mean of the action, or the action, `[N,A]`.
    pub action: Tensor,
    /// `[N,A]`, before any clamp; none for a deterministic head.
    pub log_std: Option<Tensor>,
    /// `[N,2]`
    pub cost_logits: Tensor,
    /// `[N,S]`
    pub next_state: Tensor,
}

/// Gradients of a loss with respect to [`Outputs`].
pub struct OutputGradients {
    pub action: Tensor,
    pub log_std: Option<Tensor>,
    pub cost_logits: Tensor,
    /// None where the loss does not read the predicted states.
    pub next_state: Option<Tensor>,
}

/// What [`Model::forward`] keeps.
pub struct Cache {
    transformer: TransformerCache,
    features: Tensor,
    /// Embedded costs to go `[N,E]`, where the head reads them; no gradient flows into them from there.
    cost: Option<Tensor>,
    /// Inputs of each layer of the action head, and the derivatives of the GELUs between.
    head_inputs: Vec<Tensor>,
    head_derivatives: Vec<Tensor>,
    wanted: Vec<usize>,
}

impl Cache {
    /// The input of each block and the result of the last.
    pub fn states(&self) -> Vec<&Tensor> {
        self.transformer.states()
    }

    /// Features `[B*Tq,E]` of the tokens that were asked for.
    pub fn features(&self) -> &Tensor {
        &self.features
    }
}

impl Model {
    /// Registers the network for episodes of `episode_length` steps of `states` and `actions` entries.
    pub fn new(
        builder: &mut ArenaBuilder,
        config: &CdtConfig,
        states: i64,
        actions: i64,
        episode_length: usize,
        rng: &mut Rng,
    ) -> Model {
        let e = config.embedding_hidden;
        let rows = (episode_length + config.context_length) as i64;
        let time = builder.add("timestep_emb.weight", &[rows, e], || INITIAL_STD * rng.normal_unit());
        let mut dense = |builder: &mut ArenaBuilder, name: &str, out: i64, input: i64| {
            Dense::new(builder, name, out, input, || INITIAL_STD * rng.normal_unit())
        };
        let widths = [("return_emb", 1), ("cost_emb", 1), ("state_emb", states), ("action_emb", actions)];
        let embeddings = widths.map(|(name, width)| dense(builder, name, e, width));
        let prefix = config.cost_prefix.then(|| dense(builder, "prefix_emb", e, 1));
        let input = if config.cost_feature == CostFeature::Concatenate { 2 * e } else { e };
        let hidden = config.action_layers - 1;
        let action_hidden =
            (0..hidden).map(|i| dense(builder, &format!("action_head.{}", 2 * i), input, input)).collect();
        // The names are the published ones, so that its checkpoints can be read.
        let out = |name: &str| match (config.action_head, hidden) {
            (ActionHead::Stochastic, 0) => format!("action_head.{name}"),
            (ActionHead::Stochastic, _) => format!("action_head.{}.{name}", 2 * hidden),
            (ActionHead::Deterministic, _) => format!("action_head.{}", 2 * hidden),
        };
        let names: &[&str] = match config.action_head {
            ActionHead::Stochastic => &["mu", "log_std"],
            ActionHead::Deterministic => &["out"],
        };
        let action_out = names.iter().map(|name| dense(builder, &out(name), actions, input)).collect();
        let state_out = dense(builder, "state_pred_head", states, e);
        let cost_out = dense(builder, "cost_pred_head", 2, e);
        let shape =
            TransformerShape { embedding: e, heads: config.heads, blocks: config.blocks, dropout: config.dropout };
        let transformer = Transformer::new(builder, shape, rng);
        Model {
            context: config.context_length,
            cost_feature: config.cost_feature,
            cost_transform: config.cost_transform,
            time,
            embeddings,
            prefix,
            transformer,
            action_hidden,
            action_out,
            state_out,
            cost_out,
        }
    }

    /// Tokens of a sequence.
    pub fn tokens(&self) -> usize {
        self.prefix_tokens() + STEP_TOKENS * self.context
    }

    fn prefix_tokens(&self) -> usize {
        usize::from(self.prefix.is_some())
    }

    /// Numbers of the state and action tokens, which the heads read.
    fn read_tokens(&self) -> Vec<usize> {
        (0..self.context)
            .flat_map(|step| [STATE, ACTION].map(|t| self.prefix_tokens() + STEP_TOKENS * step + t as usize))
            .collect()
    }

    /// The part of `[B*Tq,E]` that belongs to token `kind` of each step, `[B,K,E]`, as a view.
    fn kind(&self, x: &Tensor, kind: i64, wanted: &[usize]) -> Tensor {
        let (e, count) = (x.size()[1], wanted.len() as i64);
        let x = x.view([-1, count, e]);
        let steps = self.context as i64;
        if count == 2 * steps {
            return x.view([-1, steps, 2, e]).select(2, kind - STATE);
        }
        let prefix = self.prefix_tokens() as i64;
        x.narrow(1, prefix, count - prefix).view([-1, steps, STEP_TOKENS as i64, e]).select(2, kind)
    }

    /// Inputs `[N,width]` of the four embeddings.
    fn inputs(&self, batch: &Sequences) -> [Tensor; STEP_TOKENS] {
        let column = |x: &Tensor| x.reshape([-1, 1]);
        let cost = match self.cost_transform {
            CostTransform::FiftyMinus => 50.0 - column(&batch.costs_to_go),
            CostTransform::None => column(&batch.costs_to_go),
        };
        let flat = |x: &Tensor| x.reshape([-1, x.size()[2]]);
        [column(&batch.returns), cost, flat(&batch.states), flat(&batch.actions)]
    }

    /// Tokens `[B*T,E]` and the embedded costs to go `[N,E]`.
    fn embed(&self, arena: &Arena, batch: &Sequences) -> (Tensor, Tensor) {
        let (sequences, steps) = (batch.lengths.len() as i64, self.context as i64);
        let time = arena.value(self.time).index_select(0, &batch.time_steps.reshape([-1]));
        let e = time.size()[1];
        let [reward, cost, state, action] = {
            let inputs = self.inputs(batch);
            let mut embedded = self.embeddings.iter().zip(&inputs).map(|(layer, x)| layer.forward(arena, x) + &time);
            std::array::from_fn(|_| embedded.next().unwrap_or_default())
        };
        let tokens = Tensor::stack(&[&reward, &cost, &state, &action], 1).view([sequences, -1, e]);
        debug_assert_eq!(tokens.size()[1], STEP_TOKENS as i64 * steps);
        let tokens = match &self.prefix {
            Some(prefix) => {
                let first = prefix.forward(arena, &batch.episode_cost.view([-1, 1])).unsqueeze(1);
                Tensor::cat(&[first, tokens], 1)
            }
            None => tokens,
        };
        (tokens.view([-1, e]), cost)
    }

    /// Outputs of all heads. Without a generator nothing is dropped. `all` computes the features of every token, for a
    /// reader of [`Cache::features`]; the outputs are the same.
    pub fn forward(
        &self,
        arena: &Arena,
        batch: &Sequences,
        training: Option<&mut Rng>,
        all: bool,
        buffers: &Buffers,
    ) -> (Outputs, Cache) {
        let (tokens, cost) = self.embed(arena, batch);
        let e = tokens.size()[1];
        let wanted = if all { (0..self.tokens()).collect() } else { self.read_tokens() };
        let valid = self.valid_tokens(batch);
        let pass = Pass { tokens: self.tokens(), wanted: &wanted, valid: &valid };
        let (features, transformer) = self.transformer.forward(arena, tokens, &pass, training, buffers);
        let of = |kind| self.kind(&features, kind, &wanted).reshape([-1, e]);
        let (state, action) = (of(STATE), of(ACTION));
        let mut x = match self.cost_feature {
            CostFeature::None => state,
            CostFeature::Add => state + &cost,
            CostFeature::Multiply => state * &cost,
            CostFeature::Concatenate => Tensor::cat(&[&state, &cost], 1),
        };
        let (mut head_inputs, mut head_derivatives) = (Vec::new(), Vec::new());
        for layer in &self.action_hidden {
            let mut derivative = layer.forward(arena, &x);
            let active = derivative.empty_like();
            ops::gelu(&mut derivative, &active);
            head_inputs.push(std::mem::replace(&mut x, active));
            head_derivatives.push(derivative);
        }
        let mut out = self.action_out.iter().map(|layer| layer.forward(arena, &x));
        let outputs = Outputs {
            action: out.next().unwrap_or_default(),
            log_std: out.next(),
            cost_logits: self.cost_out.forward(arena, &action),
            next_state: self.state_out.forward(arena, &action),
        };
        head_inputs.push(x);
        let cost = (self.cost_feature == CostFeature::Multiply).then_some(cost);
        (outputs, Cache { transformer, features, cost, head_inputs, head_derivatives, wanted })
    }

    fn valid_tokens(&self, batch: &Sequences) -> Vec<usize> {
        batch.lengths.iter().map(|steps| self.prefix_tokens() + STEP_TOKENS * steps).collect()
    }

    /// Adds the gradients of all parameters.
    pub fn backward(
        &self,
        arena: &Arena,
        batch: &Sequences,
        gradients: &OutputGradients,
        cache: Cache,
        buffers: &Buffers,
    ) {
        let Cache { transformer, features, cost, head_inputs, head_derivatives, wanted } = cache;
        let e = features.size()[1];
        let action = self.kind(&features, ACTION, &wanted).reshape([-1, e]);
        self.cost_out.accumulate(arena, &gradients.cost_logits, &action);
        let mut action_grad = self.cost_out.input_gradient(arena, &gradients.cost_logits);
        if let Some(grad) = &gradients.next_state {
            self.state_out.accumulate(arena, grad, &action);
            action_grad += self.state_out.input_gradient(arena, grad);
        }
        let state_grad = self.head_backward(arena, gradients, &head_inputs, &head_derivatives);
        let state_grad = match self.cost_feature {
            CostFeature::None | CostFeature::Add => state_grad,
            CostFeature::Multiply => state_grad * cost.unwrap_or_default(),
            CostFeature::Concatenate => state_grad.narrow(1, 0, e),
        };
        let grad = features;
        let _ = grad.shallow_clone().zero_();
        for (kind, part) in [(STATE, state_grad), (ACTION, action_grad)] {
            let mut place = self.kind(&grad, kind, &wanted);
            place.copy_(&part.view(place.size().as_slice()));
        }
        let valid = self.valid_tokens(batch);
        let pass = Pass { tokens: self.tokens(), wanted: &wanted, valid: &valid };
        let grad = self.transformer.backward(arena, grad, transformer, &pass, buffers);
        self.embed_backward(arena, batch, &grad);
        buffers.give([grad]);
    }

    /// Gradient for the input of the action head.
    fn head_backward(&self, arena: &Arena, gradients: &OutputGradients, inputs: &[Tensor], gelu: &[Tensor]) -> Tensor {
        let last = &inputs[inputs.len() - 1];
        let mut total = last.zeros_like();
        for (layer, grad) in self.action_out.iter().zip([Some(&gradients.action), gradients.log_std.as_ref()]) {
            if let Some(grad) = grad {
                layer.accumulate(arena, grad, last);
                total += layer.input_gradient(arena, grad);
            }
        }
        for ((layer, input), derivative) in self.action_hidden.iter().zip(inputs).zip(gelu).rev() {
            let _ = total.g_mul_(derivative);
            layer.accumulate(arena, &total, input);
            total = layer.input_gradient(arena, &total);
        }
        total
    }

    fn embed_backward(&self, arena: &Arena, batch: &Sequences, grad: &Tensor) {
        let (sequences, e, prefix) = (batch.lengths.len() as i64, grad.size()[1], self.prefix_tokens() as i64);
        let grad = grad.view([sequences, -1, e]);
        if let Some(layer) = &self.prefix {
            layer.accumulate(arena, &grad.select(1, 0).contiguous(), &batch.episode_cost.view([-1, 1]));
        }
        let steps = grad.narrow(1, prefix, grad.size()[1] - prefix);
        let steps = steps.reshape([-1, STEP_TOKENS as i64, e]);
        for (kind, (layer, input)) in self.embeddings.iter().zip(self.inputs(batch)).enumerate() {
            layer.accumulate(arena, &steps.select(1, kind as i64), &input);
        }
        let sum = steps.sum_dim_intlist(1i64, false, Kind::Float);
        let _ = arena.gradient(self.time).shallow_clone().index_add_(0, &batch.time_steps.reshape([-1]), &sum);
    }
}

/// A fresh arena and its layout.
pub fn build(
    config: &CdtConfig,
    states: i64,
    actions: i64,
    episode_length: usize,
    device: Device,
    rng: &mut Rng,
) -> (Model, Arena) {
    let mut builder = ArenaBuilder::default();
    let model = Model::new(&mut builder, config, states, actions, episode_length, rng);
    (model, builder.build(device))
}
