/**
 * Policy files of kind `mlp`, read and checked: normaliser, layers, box, settings. What plays them (`player.ts`), what
 * mixes them (`mixture.ts`) and what exports them read this one description. The same format is read in Rust by
 * crates/actor. Needs no Node.
 */
import { DrcorlError } from '../base/errors.js'
import { type Safetensors, type Tensor, readSafetensors } from './safetensors.js'

const FORMAT = 'drcorl-policy/1'
/** What Rust reads as a number too: neither spaces nor hexadecimal. */
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/
const REMEDY = 'use a policy file written by drcorl'

/**
 * Kinds of policies this version knows; only the first, and the second as long as it plays its mean, are functions of
 * the observation that need no draws and no memory. The last one mixes these.
 */
const KINDS = ['mlp', 'gaussian', 'latent', 'sequence', 'diffusion', 'planner', 'switching', 'budgeted', 'mixture']

/** An affine layer. */
export interface Layer {
  inputs: number
  outputs: number
  /** [outputs, inputs]. */
  weight: Float32Array
  /** [outputs]. */
  bias: Float32Array
}

/** `action = box(squash(layers((observation - mean) / std, perhaps the setting)))`, ReLU between the layers. */
export interface Mlp {
  /** S and A. */
  obs_dim: number
  act_dim: number
  /** [S] each; std is positive. */
  mean: Float32Array
  std: Float32Array
  /** [A] each, low <= high. */
  low: Float32Array
  high: Float32Array
  layers: Layer[]
  /** How the last layer's outputs become actions in [-1, 1]. */
  squash: 'tanh' | 'clamp'
  /** A setting that follows the observation in the first layer's input, as (value - mean) / std. */
  condition: { setting: string; mean: number; std: number } | null
  /** Numbers a user may change before the policy plays. */
  settings: Record<string, number>
  metadata: Record<string, string>
}

/** True for the kinds that {@link readMlp} reads. */
export const isMlp = (kind: string): boolean => kind === 'mlp' || kind === 'gaussian'

/**
 * Reads a policy file of kind `mlp`, or the mean of one of kind `gaussian`.
 *
 * @param name stands in messages.
 * @param settings values for what the policy is conditioned on; default those of the file.
 * @throws DrcorlError `Data` or `Shape` (exit status 2) naming file and field; `Addon` for a kind, or draws, only the
 *   addon plays.
 */
export function readMlp(bytes: Uint8Array, name: string, settings: Record<string, number> = {}): Mlp {
  const { fields, kind } = openFields(bytes, name)
  if (!isMlp(kind)) throw otherKind(name, kind)
  const mlp = mlpOf(fields, fields, kind, fields.settings(settings))
  fields.finish()
  return mlp
}

/** The fields of a policy file, and its kind. */
export function openFields(bytes: Uint8Array, name: string): { fields: Fields; kind: string } {
  const fields = new Fields(readSafetensors(bytes, name), name)
  fields.choice('format', [FORMAT])
  return { fields, kind: fields.choice('kind', KINDS, 'mlp') }
}

/**
 * A network of a file.
 *
 * @param part where its own tensors are: the file itself, or what a member of a mixture has in it.
 */
export function mlpOf(fields: Fields, part: Fields, kind: string, own: Record<string, number>): Mlp {
  fields.choice('hidden_activation', ['relu'])
  const squash = fields.choice('output_activation', ['tanh', 'clamp'])
  const mean = fields.vector('observation.mean')
  const std = fields.vector('observation.std', mean.length)
  const low = fields.vector('action.low')
  const high = fields.vector('action.high', low.length)
  const flat = std.findIndex((value) => value <= 0)
  if (flat >= 0) throw fields.data('observation.std', `value ${flat} is ${std[flat]}, not positive`)
  const crossed = low.findIndex((value, i) => value > high[i]!)
  if (crossed >= 0) {
    throw fields.data('action.low', `value ${crossed} is ${low[crossed]}, above action.high ${high[crossed]}`)
  }
  const condition = readCondition(part)
  const layers = readLayers(part, mean.length + (condition === null ? 0 : 1), low.length)
  if (kind === 'gaussian') refuseDraws(part, own)
  return {
    obs_dim: mean.length,
    act_dim: low.length,
    mean,
    std,
    low,
    high,
    layers,
    squash,
    condition,
    settings: own,
    metadata: Object.fromEntries(fields.file.metadata),
  }
}

/** The mean of a Gaussian is an `mlp`; its deviation, which nothing here needs, is passed over. */
function refuseDraws(fields: Fields, { sample }: Record<string, number>): void {
  fields.passOver('deviation.')
  if (sample === undefined) throw fields.data('metadata setting.sample', `is missing, expected a number; ${REMEDY}`)
  if (sample === 0) return
  throw new DrcorlError(
    'Addon',
    `${fields.name}: sample is ${sample}: only the native addon draws; JavaScript plays the mean`,
    {
      hint: 'give sample 0, or see: npx drcorl info',
    },
  )
}

export function otherKind(name: string, kind: string): DrcorlError {
  return new DrcorlError(
    'Addon',
    `${name}: a policy of kind "${kind}" is played by the native addon only; JavaScript plays kind "mlp"`,
    { hint: 'see: npx drcorl info' },
  )
}

/** A layer's weights as [inputs, outputs]. */
export function transposed({ inputs, outputs, weight }: Layer): Float32Array {
  const turned = new Float32Array(weight.length)
  for (let o = 0; o < outputs; o += 1) {
    for (let i = 0; i < inputs; i += 1) turned[i * outputs + o] = weight[o * inputs + i]!
  }
  return turned
}

/** What the first layer reads behind the observation: the condition in force, standardised. */
export function conditionValue({ condition, settings }: Mlp): number | null {
  if (condition === null) return null
  const f32 = Math.fround
  return f32(f32(f32(settings[condition.setting]!) - condition.mean) / condition.std)
}

/**
 * The layers of a network of the observation alone:
 * the setting in force moves from the first layer's input to its bias.
 *
 * @throws DrcorlError `Data` where the setting is too large for that.
 */
export function unconditionedLayers(mlp: Mlp): Layer[] {
  const value = conditionValue(mlp)
  const [first, ...rest] = mlp.layers
  if (value === null || first === undefined) return mlp.layers
  const { outputs, weight } = first
  const [inputs, stride] = [mlp.obs_dim, first.inputs]
  const bias = first.bias.map((own, o) => own + weight[o * stride + inputs]! * value)
  if (!bias.every(Number.isFinite)) {
    const { setting } = mlp.condition!
    throw new DrcorlError('Data', `${setting}: ${mlp.settings[setting]} is too far from the data`)
  }
  const kept = new Float32Array(outputs * inputs)
  for (let o = 0; o < outputs; o += 1) kept.set(weight.subarray(o * stride, o * stride + inputs), o * inputs)
  return [{ inputs, outputs, weight: kept, bias }, ...rest]
}

function readCondition(fields: Fields): Mlp['condition'] {
  const setting = fields.file.metadata.get('condition')
  if (setting === undefined) return null
  fields.number(`setting.${setting}`)
  const [mean, std] = fields.vector('condition.scale', 2)
  return { setting, mean: mean!, std: std! }
}

function readLayers(fields: Fields, inputs: number, outputs: number): Layer[] {
  const layers: Layer[] = []
  for (let fanIn = inputs; ; fanIn = layers.at(-1)!.outputs) {
    const [weightName, biasName] = ['weight', 'bias'].map((part) => `actor.${layers.length}.${part}`) as [
      string,
      string,
    ]
    if (layers.length > 0 && !fields.has(weightName) && !fields.has(biasName)) break
    const weight = fields.tensor(weightName, 2)
    const bias = fields.tensor(biasName, 1)
    const [rows, columns] = weight.shape
    if (rows !== bias.values.length || columns !== fanIn || rows === 0) {
      const expected = `[${bias.values.length}, ${fanIn}] from ${biasName} and what comes before`
      throw fields.shape(weightName, `has shape [${weight.shape.join(', ')}], expected ${expected}`)
    }
    layers.push({ inputs: fanIn, outputs: rows!, weight: weight.values, bias: bias.values })
  }
  const last = layers.at(-1)!
  if (last.outputs === outputs) return layers
  throw fields.shape(`actor.${layers.length - 1}.weight`, `has ${last.outputs} outputs, expected ${outputs}`)
}

/** A file's fields by name; it remembers which were asked for. */
export class Fields {
  constructor(
    readonly file: Safetensors,
    readonly name: string,
    /** What the names of tensors begin with in the file. */
    private readonly prefix = '',
    private readonly used = new Set<string>(),
  ) {}

  /** The same file with the tensors whose names begin with `prefix`, by the rest of their names. */
  within(prefix: string): Fields {
    return new Fields(this.file, this.name, this.prefix + prefix, this.used)
  }

  data(field: string, text: string): DrcorlError {
    return new DrcorlError('Data', `${this.name}: ${field}: ${text}`)
  }

  shape(field: string, text: string): DrcorlError {
    return new DrcorlError('Shape', `${this.name}: ${this.prefix}${field}: ${text}`)
  }

  has(name: string): boolean {
    return this.file.tensors.has(this.prefix + name)
  }

  /** Metadata that is one of `choices`. */
  choice<T extends string>(key: string, choices: readonly T[], missing?: T): T {
    const found = this.file.metadata.get(key) ?? missing
    const choice = choices.find((known) => known === found)
    if (choice !== undefined) return choice
    const state = found === undefined ? 'missing' : JSON.stringify(found)
    const known = choices.map((text) => JSON.stringify(text)).join(' or ')
    throw this.data(`metadata ${key}`, `is ${state}, this version reads ${known}; ${REMEDY}`)
  }

  /** Metadata that is a finite number. */
  number(key: string): number {
    const text = this.file.metadata.get(key)
    const value = text !== undefined && DECIMAL.test(text) ? Number(text) : Number.NaN
    if (Number.isFinite(value)) return value
    const state = text === undefined ? 'missing' : JSON.stringify(text)
    throw this.data(`metadata ${key}`, `is ${state}, expected a number; ${REMEDY}`)
  }

  /** Metadata that is a whole number below 2^64. */
  whole(key: string): bigint {
    const text = this.file.metadata.get(key) ?? 'missing'
    const value = /^\+?\d+$/.test(text) ? BigInt(text.replace('+', '')) : -1n
    if (value >= 0n && value < 2n ** 64n) return value
    throw this.data(`metadata ${key}`, `is ${text}, expected a whole number; ${REMEDY}`)
  }

  /** A tensor of the given rank with finite values. */
  tensor(name: string, rank: number): Tensor {
    const full = this.prefix + name
    const tensor = this.file.tensors.get(full)
    if (tensor === undefined) throw this.data(full, `is missing; ${REMEDY}`)
    if (tensor.shape.length !== rank) {
      throw this.shape(name, `has shape [${tensor.shape.join(', ')}], expected rank ${rank}`)
    }
    const bad = tensor.values.findIndex((value) => !Number.isFinite(value))
    if (bad >= 0) throw this.data(full, `value ${bad} is ${tensor.values[bad]}, not a finite number`)
    this.used.add(full)
    return tensor
  }

  /** Counts every tensor of that prefix as asked for. */
  passOver(prefix: string): void {
    const full = this.prefix + prefix
    for (const name of this.file.tensors.keys()) if (name.startsWith(full)) this.used.add(name)
  }

  /** A vector with entries, of that length where one is given. */
  vector(name: string, length?: number): Float32Array {
    const { values } = this.tensor(name, 1)
    if (length !== undefined && values.length !== length) {
      throw this.shape(name, `has ${values.length} entries, expected ${length}`)
    }
    if (values.length === 0) throw this.shape(name, 'has no entries')
    return values
  }

  /** The file's settings with the user's values in their place. */
  settings(wanted: Record<string, number>): Record<string, number> {
    const names = [...this.file.metadata.keys()].filter((key) => key.startsWith('setting.'))
    const values = Object.fromEntries(names.map((key) => [key.slice('setting.'.length), this.number(key)]))
    for (const [name, value] of Object.entries(wanted)) {
      if (!Number.isFinite(value)) throw new DrcorlError('Data', `${name}: is ${value}, expected a number`)
      if (!Object.hasOwn(values, name)) {
        const known = Object.keys(values).sort().join(', ') || 'none'
        throw new DrcorlError('Data', `${name}: is no setting of this policy; it has: ${known}`)
      }
      values[name] = value
    }
    return values
  }

  /** Refuses tensors no one asked for. */
  finish(): void {
    const stray = [...this.file.tensors.keys()].sort().find((name) => !this.used.has(name))
    if (stray === undefined) return
    throw this.data(stray, 'is not a tensor of this format; a layer before it may be missing')
  }
}
