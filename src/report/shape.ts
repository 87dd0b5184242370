/** What a report reads from the JSON of a run, checked before any of it is used. */
import { DrcorlError } from '../base/errors.js'
import { isAmount } from '../config/stored.js'

/** The type of a value, which may be null where that is said; or the parts of an object that are read. */
type Shape = 'text' | 'number' | 'flag' | 'interval' | { readonly [key: string]: Shape | readonly [Shape, null] }

const STATISTICS: Shape = { mean: 'number', std: ['number', null], ci95: ['interval', null], max: 'number' }

const POLICY: Shape = {
  policy: 'text',
  episodes: 'number',
  return: STATISTICS,
  cost: STATISTICS,
  normalized_reward: ['number', null],
  normalized_cost: [{ dsrl: 'number', paper: 'number', release: 'number' }, null],
  within_limit: [{ episodes: 'number' }, null],
  safe: ['flag', null],
  environment_steps: 'number',
}

/** `evaluation.json`. */
export const EVALUATION: Shape = { ...POLICY, env: 'text', seed: 'number', selected: [POLICY, null] }

/** `config.json`, beyond what `readRecord` has checked. */
export const RECORD: Shape = {
  algorithm: 'text',
  created: 'text',
  versions: { drcorl: 'text' },
  dataset: {
    source: 'text',
    sha256: 'text',
    transitions: 'number',
    episodes: 'number',
    obs_dim: 'number',
    act_dim: 'number',
  },
  task: [{ task: 'text' }, null],
}

const WORDS = { text: 'text', number: 'a number', flag: 'true or false', interval: 'two numbers' } as const
const TESTS: Readonly<Record<keyof typeof WORDS, (value: unknown) => boolean>> = {
  text: (value) => typeof value === 'string',
  number: isAmount,
  flag: (value) => typeof value === 'boolean',
  interval: (value) => Array.isArray(value) && value.length === 2 && value.every(isAmount),
}

/**
 * Refuses JSON in which something that the report reads is missing or of another type.
 *
 * @throws DrcorlError `Data` naming file, key and value.
 */
export function requireShape(value: unknown, shape: Shape, path: string, key = ''): void {
  if (typeof shape === 'string') {
    if (TESTS[shape](value)) return
    throw wrong(path, key, WORDS[shape], value)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(path, key, 'an object', value)
  for (const [name, part] of Object.entries(shape)) {
    const inner = Object.hasOwn(value, name) ? (value as Record<string, unknown>)[name] : undefined
    const mayBeNull = Array.isArray(part)
    if (mayBeNull && inner === null) continue
    requireShape(inner, (mayBeNull ? part[0] : part) as Shape, path, key === '' ? name : `${key}.${name}`)
  }
}

function wrong(path: string, key: string, wanted: string, value: unknown): DrcorlError {
  const what = key === '' ? 'its content' : `"${key}"`
  const shown = value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 80)
  return new DrcorlError('Data', `${path} is damaged: ${what} must be ${wanted}, got ${shown}`)
}
