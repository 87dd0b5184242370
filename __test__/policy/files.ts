/** Policies of kind `mlp` with drawn weights, as the core writes them. */
import { type Safetensors, type Tensor } from '../../src/policy/safetensors.js'

/** A linear congruential generator over [-1, 1). */
export function draws(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  }
}

export interface PolicyOptions {
  /** Observation entries, hidden widths, action entries. */
  widths: readonly number[]
  seed?: number
  squash?: 'tanh' | 'clamp'
  /** With a setting `cost_limit` behind the observation, of this value in the file. */
  condition?: number | undefined
  /** As the mean of a Gaussian whose deviation is one number, or an output of the network. */
  spread?: 'constant' | 'learnt' | undefined
  /** Multiplies the last layer, so that outputs reach the ends of the box. */
  gain?: number
}

export function drawPolicy({
  widths,
  seed = 1,
  squash = 'tanh',
  condition,
  spread,
  gain = 1,
}: PolicyOptions): Safetensors {
  const draw = draws(seed)
  const vector = (length: number, scale = 1, offset = 0): Tensor => ({
    shape: [length],
    values: Float32Array.from({ length }, () => offset + scale * draw()),
  })
  const [obs_dim, act_dim] = [widths[0]!, widths.at(-1)!]
  const tensors = new Map<string, Tensor>([
    ['observation.mean', vector(obs_dim, 3)],
    ['observation.std', vector(obs_dim, 0.9, 1)],
    ['action.low', vector(act_dim, 0.5, -1)],
    ['action.high', vector(act_dim, 0.5, 1)],
  ])
  const layers = widths.slice(1)
  for (const [index, outputs] of layers.entries()) {
    const inputs = widths[index]! + (index === 0 && condition !== undefined ? 1 : 0)
    const scale = (index === layers.length - 1 ? gain : 1) * Math.sqrt(3 / inputs)
    const { values } = vector(inputs * outputs, scale)
    tensors.set(`actor.${index}.weight`, { shape: [outputs, inputs], values })
    tensors.set(`actor.${index}.bias`, vector(outputs, 0.3))
  }
  const metadata = new Map([
    ['format', 'drcorl-policy/1'],
    ['kind', 'mlp'],
    ['hidden_activation', 'relu'],
    ['output_activation', squash],
  ])
  if (condition !== undefined) {
    metadata.set('condition', 'cost_limit').set('setting.cost_limit', String(condition))
    tensors.set('condition.scale', { shape: [2], values: Float32Array.of(20, 8) })
  }
  if (spread !== undefined) {
    metadata.set('kind', 'gaussian').set('seed', '0').set('setting.sample', '0')
    if (spread === 'constant') tensors.set('deviation.std', { shape: [1], values: Float32Array.of(0.2) })
    else {
      const hidden = widths.at(-2)!
      tensors.set('deviation.weight', { shape: [act_dim, hidden], values: vector(act_dim * hidden, 0.1).values })
      tensors.set('deviation.bias', vector(act_dim, 0.1, -1.5))
      tensors.set('deviation.range', { shape: [2], values: Float32Array.of(-5, 2) })
    }
  }
  return { metadata, tensors }
}

/** `rows` observations around the data the policy's normaliser was made of. */
export function drawObservations({ tensors }: Safetensors, rows: number, seed = 7): Float32Array {
  const draw = draws(seed)
  const [mean, std] = ['observation.mean', 'observation.std'].map((name) => tensors.get(name)!.values)
  const obs_dim = mean!.length
  return Float32Array.from({ length: rows * obs_dim }, (_, i) => mean![i % obs_dim]! + 3 * draw() * std![i % obs_dim]!)
}

/** Largest difference of actions as a share of the box's width; NaN where one is no number. */
export function largestDifference(a: Float32Array, b: Float32Array, { tensors }: Safetensors): number {
  const [low, high] = ['action.low', 'action.high'].map((name) => tensors.get(name)!.values)
  const act_dim = low!.length
  const width = (i: number): number => Math.max(1, high![i % act_dim]! - low![i % act_dim]!)
  return a.length === b.length
    ? a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!) / width(i)), 0)
    : NaN
}
