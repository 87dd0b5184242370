/**
 * Policies of kind `mlp` in plain JavaScript, for browsers and for machines the addon was not built for. Needs no Node.
 */
import { DrcorlError } from '../base/errors.js'
import { type Layer, type Mlp, conditionValue, transposed } from './mlp.js'
import type { LoadedPolicy } from './policy.js'

/** A layer as the inner loop reads it. */
interface PackedLayer {
  inputs: number
  outputs: number
  /** [inputs, outputs]: the loop runs along outputs, over weights that lie side by side. */
  weight: Float32Array
  bias: Float32Array
}

/**
 * A network at play. Sums are double precision, so that an action differs from the native one by the native one's
 * rounding only; a row's action has the same bits alone and in any batch.
 */
export class MlpPlayer implements LoadedPolicy {
  readonly runtime = 'javascript'
  readonly obs_dim: number
  readonly act_dim: number
  readonly settings: Readonly<Record<string, number>>
  readonly metadata: Readonly<Record<string, string>>
  private readonly layers: PackedLayer[]
  private readonly condition: number | null
  /** Activations of two layers that follow each other. */
  private front: Float64Array
  private back: Float64Array
  /** Which inputs of a layer are not zero: about half are behind a ReLU. */
  private readonly active: Int32Array

  constructor(
    readonly name: string,
    private readonly mlp: Mlp,
  ) {
    this.obs_dim = mlp.obs_dim
    this.act_dim = mlp.act_dim
    this.settings = mlp.settings
    this.metadata = mlp.metadata
    this.layers = mlp.layers.map(pack)
    this.condition = conditionValue(mlp)
    const width = Math.max(...mlp.layers.flatMap(({ inputs, outputs }) => [inputs, outputs]))
    this.front = new Float64Array(width)
    this.back = new Float64Array(width)
    this.active = new Int32Array(width)
  }

  reset(): void {
    // Nothing is remembered.
  }

  act(observations: Float32Array | readonly number[]): Float32Array {
    return actBy(this, observations)
  }

  actInto(observations: Float32Array, actions: Float32Array): void {
    const { obs_dim, act_dim } = this
    const rows = requireTurn(observations, actions, this)
    for (let row = 0; row < rows; row += 1) this.actRow(observations, row * obs_dim, actions, row * act_dim)
    requirePlayed(actions, act_dim)
  }

  /** Plays the observation that begins at `from` into the action that begins at `to`. */
  actRow(observations: Float32Array, from: number, actions: Float32Array, to: number): void {
    const { mean, std, low, high, squash } = this.mlp
    const input = this.front
    const f32 = Math.fround
    for (let i = 0; i < this.obs_dim; i += 1) input[i] = f32(f32(observations[from + i]! - mean[i]!) / std[i]!)
    if (this.condition !== null) input[this.obs_dim] = this.condition
    const last = this.layers.length - 1
    for (let index = 0; index <= last; index += 1) {
      affine(this.layers[index]!, this.front, this.back, this.active)
      if (index < last) relu(this.back, this.layers[index]!.outputs)
      ;[this.front, this.back] = [this.back, this.front]
    }
    const output = this.front
    for (let i = 0; i < this.act_dim; i += 1) {
      const value = output[i]!
      const unit = squash === 'tanh' ? Math.tanh(value) : Math.min(1, Math.max(-1, value))
      const action = low[i]! + (unit + 1) * 0.5 * (high[i]! - low[i]!)
      // NaN stays NaN, so that an overflow is found.
      actions[to + i] = Math.min(high[i]!, Math.max(low[i]!, action))
    }
  }
}

/** `act` of a player by its `actInto`. */
export function actBy(
  player: Pick<LoadedPolicy, 'obs_dim' | 'act_dim' | 'actInto'>,
  observations: Float32Array | readonly number[],
): Float32Array {
  const given = observations instanceof Float32Array ? observations : Float32Array.from(observations)
  const actions = new Float32Array(rowsOf(given, player.obs_dim) * player.act_dim)
  player.actInto(given, actions)
  return actions
}

/**
 * Number of observations in a flat array.
 *
 * @throws DrcorlError `Shape` where the last one is incomplete.
 */
export function rowsOf(observations: Float32Array, obs_dim: number): number {
  const rows = observations.length / obs_dim
  if (Number.isInteger(rows)) return rows
  const text = `not a multiple of the ${obs_dim} entries of an observation`
  throw new DrcorlError('Shape', `observations: has ${observations.length} values, ${text}`)
}

/**
 * Number of rows whose observations become these actions.
 *
 * @throws DrcorlError `Shape` where sizes disagree or memory is shared, `Data` for an observation that is not finite.
 */
export function requireTurn(
  observations: Float32Array,
  actions: Float32Array,
  { obs_dim, act_dim }: Pick<LoadedPolicy, 'obs_dim' | 'act_dim'>,
): number {
  const rows = rowsOf(observations, obs_dim)
  if (actions.length !== rows * act_dim) {
    const text = `actions: has ${actions.length} values, expected ${rows} rows of ${act_dim}`
    throw new DrcorlError('Shape', text)
  }
  requireApart(actions, observations, 'observations')
  requireFinite('observations', observations, obs_dim, 'give finite observations')
  return rows
}

/** @throws DrcorlError `Data` where a network overflowed. */
export const requirePlayed = (actions: Float32Array, act_dim: number): void =>
  requireFinite('actions', actions, act_dim, 'the observation is too far from the data, or a weight too large')

/**
 * Actions are written while observations are still being read.
 *
 * @throws DrcorlError `Shape` where the two share memory.
 */
export function requireApart(actions: Float32Array, read: Float32Array | undefined, name: string): void {
  if (read === undefined || actions.buffer !== read.buffer) return
  const end = (array: Float32Array): number => array.byteOffset + array.byteLength
  if (actions.byteOffset >= end(read) || read.byteOffset >= end(actions)) return
  throw new DrcorlError('Shape', `actions: overlap the ${name} in memory; give an array of their own`)
}

const pack = (layer: Layer): PackedLayer => ({ ...layer, weight: transposed(layer) })

/** `out = weight x + bias`, four inputs at a time: one store for four products. */
function affine(
  { inputs, outputs, weight, bias }: PackedLayer,
  x: Float64Array,
  out: Float64Array,
  active: Int32Array,
) {
  for (let o = 0; o < outputs; o += 1) out[o] = bias[o]!
  let count = 0
  for (let i = 0; i < inputs; i += 1) if (x[i] !== 0) active[count++] = i
  let k = 0
  for (; k + 4 <= count; k += 4) {
    const [i0, i1, i2, i3] = [active[k]!, active[k + 1]!, active[k + 2]!, active[k + 3]!]
    const [x0, x1, x2, x3] = [x[i0]!, x[i1]!, x[i2]!, x[i3]!]
    const [w0, w1, w2, w3] = [i0 * outputs, i1 * outputs, i2 * outputs, i3 * outputs]
    for (let o = 0; o < outputs; o += 1) {
      out[o]! += x0 * weight[w0 + o]! + x1 * weight[w1 + o]! + x2 * weight[w2 + o]! + x3 * weight[w3 + o]!
    }
  }
  for (; k < count; k += 1) {
    const i = active[k]!
    const value = x[i]!
    const w = i * outputs
    for (let o = 0; o < outputs; o += 1) out[o]! += value * weight[w + o]!
  }
}

function relu(values: Float64Array, count: number): void {
  // Written so that NaN stays NaN.
  for (let i = 0; i < count; i += 1) if (values[i]! < 0) values[i] = 0
}

function requireFinite(name: string, values: Float32Array, dim: number, remedy: string): void {
  for (let i = 0; i < values.length; i += 1) {
    if (Number.isFinite(values[i])) continue
    const place = `value ${i} (row ${Math.floor(i / dim)}, entry ${i % dim})`
    throw new DrcorlError('Data', `${name}: ${place} is ${values[i]}, not a finite number; ${remedy}`)
  }
}
