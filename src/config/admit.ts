/**
 * The refusal of what a parameter does not accept, before a dataset or an addon is loaded.
 * `crates/core/src/schema/mod.rs` refuses the same values in the same words;
 * both are held to `crates/core/src/schema/cases.json`.
 */
import { DrcorlError } from '../base/errors.js'
import { type Parameter, allowedValues } from './schema.js'

/** Characters of a value that an error repeats. */
const SHOWN = 60

/** How an error says where the value of a key came from: `flag --cost_limit`, `file exp.yaml`. */
export type Origin = (key: string) => string

/**
 * Refuses keys that are no parameter, and values of another type or out of bounds.
 *
 * @param owner whose parameters they are, in the words of an error.
 * @throws DrcorlError `Config`, naming key, value, origin if known, and remedy.
 */
export function admit(
  values: Readonly<Record<string, unknown>>,
  parameters: readonly Parameter[],
  owner: string,
  origin?: Origin,
): void {
  const known = new Map(parameters.map((parameter) => [parameter.name, parameter]))
  for (const [key, value] of Object.entries(values)) {
    const parameter = known.get(key)
    if (parameter === undefined) throw unknownParameter(key, [...known.keys()], owner, origin)
    if (accepts(parameter, value)) continue
    throw new DrcorlError('Config', `${key} is ${show(value)}${from(key, origin)}; give ${allowedValues(parameter)}`)
  }
}

/** Whether the value is one of the parameter's choices, or of its type and within its bounds. */
export function accepts(parameter: Parameter, value: unknown): boolean {
  const { choices, items, minItems = 0, maxItems = Infinity, pattern, types } = parameter
  if (value === null) return parameter.nullable
  if (choices.length > 0) return choices.some((choice) => choice.value === value)
  if (typeof value === 'number') {
    const whole = types.has('number') || (types.has('integer') && Number.isInteger(value))
    return whole && Number.isFinite(value) && spans(parameter, value)
  }
  if (Array.isArray(value)) {
    const fits = minItems <= value.length && value.length <= maxItems
    return types.has('array') && fits && (items === undefined || value.every((item) => accepts(items, item)))
  }
  if (typeof value === 'string') {
    return types.has('string') && (pattern === undefined || new RegExp(pattern, 'u').test(value))
  }
  if (typeof value === 'object') {
    const entries = Object.values(value as object)
    const fits = entries.length <= maxItems && (items === undefined || entries.every((entry) => accepts(items, entry)))
    return types.has('object') && fits
  }
  return typeof value === 'boolean' && types.has('boolean')
}

/** The known name closest to a mistyped one, if any is close. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const wanted = word.toLowerCase().replace(/-/g, '_')
  let best: string | undefined
  let bestDistance = Math.max(2, Math.floor(wanted.length / 3)) + 1
  for (const candidate of known) {
    if (Math.abs(candidate.length - wanted.length) >= bestDistance) continue
    const distance = editDistance(wanted, candidate.toLowerCase().replace(/-/g, '_'))
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance]
  }
  return best
}

/** The refusal of a key that is no parameter of `owner`. */
export function unknownParameter(key: string, known: readonly string[], owner: string, origin?: Origin): DrcorlError {
  const guess = nearest(key, known)
  const remedy = guess === undefined ? 'leave it out' : `did you mean ${guess}?`
  return new DrcorlError('Config', `${key} is not a parameter of ${owner}${from(key, origin)}; ${remedy}`)
}

function spans(parameter: Parameter, value: number): boolean {
  const { minimum = -Infinity, maximum = Infinity, exclusiveMinimum, exclusiveMaximum } = parameter
  const above = exclusiveMinimum === undefined ? value >= minimum : value > exclusiveMinimum
  const below = exclusiveMaximum === undefined ? value <= maximum : value < exclusiveMaximum
  return above && below
}

function from(key: string, origin: Origin | undefined): string {
  return origin === undefined ? '' : ` (from ${origin(key)})`
}

/** As JSON, which has no word for numbers that are not finite. */
function show(value: unknown): string {
  const words = (_: string, inner: unknown): unknown =>
    typeof inner === 'number' && !Number.isFinite(inner) ? String(inner) : inner
  const text = (JSON.stringify(value, words) ?? String(value)).replaceAll(/"(-?Infinity|NaN)"/g, '$1')
  const characters = Array.from(text)
  return characters.length > SHOWN ? `${characters.slice(0, SHOWN).join('')}...` : text
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitution = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      row.push(Math.min((previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, substitution))
    }
    previous = row
  }
  return previous[b.length] ?? 0
}
