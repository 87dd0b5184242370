import { parse as parseYaml } from 'yaml'
import { DrcorlError, messageOf } from '../base/errors.js'
import { readInput } from '../base/files.js'
import { type Origin, admit, nearest, unknownParameter } from './admit.js'
import { type Parameter, type Schema, allowedValues, defaultAlgorithm, loadSchema, parametersFor } from './schema.js'
import { own } from '../base/own.js'
import { named, takeLimits } from './limits.js'

/** Values with the words for where they came from, e.g. `flag --cost_limit` or `file exp.yaml`. */
export interface Layer {
  values: Record<string, unknown>
  /** Where `key` of this layer came from, as an error message says it. */
  origin: Origin
}

/** A complete, validated configuration: what the native trainer gets and the run folder stores. */
export interface ResolvedConfig {
  algorithm: string
  /** Name of the preset applied, null for none. */
  preset: string | null
  /** Parameters every algorithm has. */
  run: Record<string, unknown>
  /** Parameters of the algorithm. */
  config: Record<string, unknown>
  /** For each parameter that is not a default: where its value came from. */
  origins: Record<string, string>
}

export interface ResolveOptions {
  schema?: Schema
  algorithm?: string | undefined
  /** A preset's name; `none` for the schema's defaults alone. Left out: `quick` where the algorithm has it. */
  preset?: string | undefined
  /** Values of a config file, see `readConfigFile`. */
  file?: ConfigFile | undefined
  /** Values given by hand; they win. Presence counts: a value equal to a default still overrides preset and file. */
  flags?: Record<string, unknown> | undefined
  /** Name of the data's task, for which a preset may have values of its own. */
  task?: string | undefined
  /** How an error names a flag; the default is the CLI's spelling. */
  flagOrigin?: Origin
}

export interface ConfigFile {
  path: string
  algorithm?: string
  preset?: string
  values: Record<string, unknown>
}

const DEFAULT_PRESET = 'quick'
const NO_PRESET = 'none'
/**
 * Bytes of a file of parameters: the largest are of 5 kB, and the time of YAML's parser grows with the square of their
 * number, a minute at 10^5.
 */
const LONGEST_FILE = 1 << 16

/**
 * Merges defaults < preset < preset for the task < file < flags by presence and validates the result.
 *
 * @throws DrcorlError `Config`, naming the key, its value, what is allowed and where it came from.
 */
export function resolveConfig(options: ResolveOptions): ResolvedConfig {
  const schema = options.schema ?? loadSchema()
  const { file } = options
  const algorithm = options.algorithm ?? file?.algorithm ?? defaultAlgorithm(schema)
  const entry = own(schema.algorithms, algorithm)
  if (entry === undefined) {
    const origin = options.algorithm === undefined && file ? ` (from file ${file.path})` : ''
    throw unknownName('algorithm', algorithm, Object.keys(schema.algorithms), origin)
  }
  const preset = choosePreset(options, Object.keys(entry.presets), algorithm)
  const chosen = preset === null ? undefined : entry.presets[preset]

  const layers: Layer[] = []
  if (chosen) layers.push({ values: { ...chosen.run, ...chosen.config }, origin: () => `preset ${preset}` })
  const forTask = options.task === undefined ? undefined : chosen && own(chosen.tasks, options.task)
  if (forTask) layers.push({ values: forTask, origin: () => `preset ${preset} for ${options.task}` })
  if (file) layers.push({ values: file.values, origin: () => `file ${file.path}` })
  const flagOrigin = options.flagOrigin ?? ((key: string) => `flag --${key}`)
  layers.push({ values: definedOnly(options.flags ?? {}), origin: flagOrigin })

  const parameters = parametersFor(schema, algorithm)
  const { values, origins } = merge(layers, parameters, schema, algorithm)
  if (Object.hasOwn(values, 'limits')) values['limits'] = named(values['limits'])
  const required = new Set([schema.run.schema, entry.schema].flatMap((part) => part.required ?? []))
  const missing = parameters.find(({ name: key }) => required.has(key) && !Object.hasOwn(values, key))
  if (missing) {
    const message = `${missing.name} is missing; give ${allowedValues(missing)}`
    throw new DrcorlError('Config', message, { hint: `give it with --${missing.name}` })
  }
  admit(values, parameters, algorithm, (key) => origins[key] ?? 'default')
  takeLimits(values, origins, layers)
  const run: Record<string, unknown> = {}
  const config: Record<string, unknown> = {}
  const runKeys = new Set(Object.keys(schema.run.schema.properties ?? {}))
  for (const [key, value] of Object.entries(values)) (runKeys.has(key) ? run : config)[key] = value
  return { algorithm, preset, run, config, origins }
}

/**
 * Reads a YAML or JSON config file: a mapping of parameters, with `algorithm` and `preset` beside them if wanted.
 * The `config.json` of a run folder is accepted too: it repeats that run's configuration.
 */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const text = await readInput(path, LONGEST_FILE)
  let content: unknown
  try {
    content = path.endsWith('.json') ? (JSON.parse(text) as unknown) : (parseYaml(text) as unknown)
  } catch (error) {
    const reason = messageOf(error).split('\n')[0]?.replace(/:$/, '')
    throw new DrcorlError('Config', `${path} cannot be parsed: ${reason}`, { cause: error })
  }
  if (content === null || content === undefined) return { path, values: {} }
  if (!isMapping(content)) {
    throw new DrcorlError('Config', `${path} must be a mapping of parameters such as "cost_limit: 10"`)
  }
  if (isMapping(content['run']) && isMapping(content['config'])) {
    // Every parameter is stored resolved, so the preset must not be applied again under it.
    const algorithm = content['algorithm']
    const values = { ...content['run'], ...content['config'] }
    return { path, preset: NO_PRESET, values, ...(typeof algorithm === 'string' ? { algorithm } : {}) }
  }
  const { algorithm, preset, ...values } = content
  return {
    path,
    values,
    ...(algorithm === undefined ? {} : { algorithm: name('algorithm', algorithm, path) }),
    ...(preset === undefined ? {} : { preset: name('preset', preset, path) }),
  }
}

/**
 * Turns the text of a flag into the value its parameter wants: numbers, booleans, `null`, lists as `256,256` or JSON.
 * Text that does not fit is returned as it is; validation then refuses it with a full message.
 */
export function parseFlag(text: string, parameter: Parameter): unknown {
  const { types } = parameter
  if (parameter.nullable && (text === 'null' || text === 'none')) return null
  if (parameter.choices.some((choice) => choice.value === text)) return text
  if (types.has('array')) {
    if (text.trim().startsWith('[')) return tryJson(text)
    const { items } = parameter
    const parts = text.split(',').map((part) => part.trim())
    return items === undefined ? parts : parts.map((part) => parseFlag(part, items))
  }
  if ((types.has('number') || types.has('integer')) && /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text)) {
    return Number(text)
  }
  if (types.has('boolean') && (text === 'true' || text === 'false')) return text === 'true'
  if (types.has('object')) return tryJson(text)
  return text
}

/** `unknown algorithm "x"; did you mean "y"? known: ...` */
export function unknownName(kind: string, value: string, known: readonly string[], where = ''): DrcorlError {
  const guess = nearest(value, known)
  const suggestion = guess === undefined ? '.' : `; did you mean "${guess}"?`
  return new DrcorlError('Config', `unknown ${kind} "${value}"${where}${suggestion} Known: ${known.join(', ')}`)
}

/** The preset of an algorithm that is in force where none is asked for; null where there is none such. */
export function defaultPreset(known: readonly string[]): string | null {
  return known.includes(DEFAULT_PRESET) ? DEFAULT_PRESET : null
}

/**
 * The values a preset puts in the place of defaults, and its name: of the preset asked for, or else of the one in
 * force. Names that are not known have none.
 */
export function presetValues(
  schema: Schema,
  algorithm: string,
  asked?: string,
): { preset: string | null; values: Record<string, unknown> } {
  const known = new Map(Object.entries(schema.algorithms)).get(algorithm)
  const presets = new Map(Object.entries(known?.presets ?? {}))
  const preset = asked ?? defaultPreset([...presets.keys()])
  const found = preset === null ? undefined : presets.get(preset)
  return found === undefined ? { preset: null, values: {} } : { preset, values: { ...found.run, ...found.config } }
}

function choosePreset(options: ResolveOptions, known: readonly string[], algorithm: string): string | null {
  // A preset written in a file belongs to the algorithm written there.
  const fromFile = options.file?.preset
  const asked = options.preset ?? fromFile
  if (asked === undefined) return defaultPreset(known)
  if (asked === NO_PRESET) return null
  if (!known.includes(asked)) {
    const where = options.preset === undefined ? ` (from file ${options.file?.path})` : ''
    throw unknownName('preset', asked, [...known, NO_PRESET], ` of algorithm ${algorithm}${where}`)
  }
  return asked
}

/** Lays the layers over the defaults; the last one that has a key wins, whatever its value. */
function merge(
  layers: readonly Layer[],
  parameters: readonly Parameter[],
  schema: Schema,
  algorithm: string,
): { values: Record<string, unknown>; origins: Record<string, string> } {
  const known = new Set(parameters.map((parameter) => parameter.name))
  const values: Record<string, unknown> = {}
  const origins: Record<string, string> = {}
  for (const parameter of parameters) {
    if (parameter.default !== undefined) values[parameter.name] = structuredClone(parameter.default)
  }
  for (const layer of layers) {
    for (const [key, value] of Object.entries(layer.values)) {
      if (!known.has(key)) throw unknownKey(key, layer.origin, [...known], schema, algorithm)
      values[key] = value
      origins[key] = layer.origin(key)
    }
  }
  return { values, origins }
}

function unknownKey(key: string, origin: Origin, known: string[], schema: Schema, algorithm: string): DrcorlError {
  const owners = Object.entries(schema.algorithms)
    .filter(([, other]) => Object.hasOwn(other.schema.properties ?? {}, key))
    .map(([name]) => name)
  if (owners.length > 0) {
    const message = `${key} (from ${origin(key)}) is a parameter of ${owners.join(', ')}, not of ${algorithm}`
    return new DrcorlError('Config', message, { hint: `choose it with --algorithm ${owners[0]}, or leave ${key} out` })
  }
  const { message } = unknownParameter(key, known, algorithm, origin)
  return new DrcorlError('Config', message, { hint: `all parameters: drcorl train --algorithm ${algorithm} --help` })
}

function definedOnly(values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined))
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function name(key: string, value: unknown, path: string): string {
  if (typeof value === 'string') return value
  throw new DrcorlError('Config', `${path}: ${key} must be a name, got ${JSON.stringify(value)}`)
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}
