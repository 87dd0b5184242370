/** What a study varies: texts of `--vary` as axes, and every combination of their values as a variant. */
import type { Variant } from '../benchmark/plan.js'
import { DrcorlError } from '../base/errors.js'
import { type Schema, loadSchema, parametersFor } from '../config/schema.js'

/** One axis. */
export interface Axis {
  /** `slack_above+slack_below`: they take each value together. */
  name: string
  parameters: string[]
  values: string[]
}

/** The limit is an axis of its own: a policy that takes one is trained once for all. */
export const LIMIT = 'cost_limit'

/**
 * Reads `NAME=a,b,c` and `NAME+OTHER=a,b`; a value that is a list has semicolons around it: `NAME=64,64;128,128`.
 *
 * @throws DrcorlError `Usage` for a text of another form, an axis that comes twice, or a value that does.
 */
export function readAxes(texts: readonly string[]): Axis[] {
  const axes = texts.map((text): Axis => {
    const [, name = '', given = ''] = /^(\w+(?:\+\w+)*)=(.+)$/s.exec(text) ?? []
    const values = given.split(given.includes(';') ? ';' : ',').map((value) => value.trim())
    if (name === '' || values.includes('')) {
      throw new DrcorlError('Usage', `--vary "${text}" is not of the form NAME=VALUE,VALUE`, {
        hint: 'several parameters take a value together: NAME+OTHER=VALUE,VALUE; lists: NAME=64,64;128,128',
      })
    }
    const twice = values.find((value, index) => values.indexOf(value) !== index)
    if (twice !== undefined) throw new DrcorlError('Usage', `--vary "${text}" has ${twice} twice`)
    return { name, parameters: name.split('+'), values }
  })
  const all = axes.flatMap(({ parameters }) => parameters)
  const twice = all.find((name, index) => all.indexOf(name) !== index)
  if (twice !== undefined) throw new DrcorlError('Usage', `--vary: ${twice} is varied twice`)
  if (all.includes('seed')) throw new DrcorlError('Usage', '--vary: seeds have an option of their own, --seeds')
  if (axes.some(({ name, parameters }) => name !== LIMIT && parameters.includes(LIMIT))) {
    throw new DrcorlError('Usage', `--vary: ${LIMIT} is an axis of its own`)
  }
  return axes
}

/** The limits that an axis asks for; undefined where none does. @throws DrcorlError `Usage`. */
export function limitsOf(axes: readonly Axis[]): number[] | undefined {
  return axes
    .find(({ name }) => name === LIMIT)
    ?.values.map((value) => {
      const limit = Number(value)
      if (Number.isFinite(limit) && limit >= 0) return limit
      throw new DrcorlError('Usage', `--vary ${LIMIT}: "${value}" is not a number, 0 or more`)
    })
}

/** A variant with its place on every axis but the limit's. */
export interface Placed extends Variant {
  values: string[]
}

/** Every combination of the values of all axes but the limit's; undefined where there is none such. */
export function variantsOf(axes: readonly Axis[]): Placed[] | undefined {
  const own = axes.filter(({ name }) => name !== LIMIT)
  if (own.length === 0) return undefined
  let all: Placed[] = [{ name: '', set: [], values: [] }]
  for (const { name, parameters, values } of own) {
    all = all.flatMap((before) =>
      values.map((value) => ({
        name: [before.name, `${name}=${value}`].filter(Boolean).join(' '),
        set: [...before.set, ...parameters.map((parameter) => `${parameter}=${value}`)],
        values: [...before.values, value],
      })),
    )
  }
  return all
}

/** The algorithms that have every parameter that is varied. @throws DrcorlError `Usage` where there is none. */
export function algorithmsWith(axes: readonly Axis[], schema: Schema = loadSchema()): string[] {
  const wanted = axes.flatMap(({ parameters }) => parameters)
  const found = Object.keys(schema.algorithms).filter((algorithm) => {
    const known = new Set(parametersFor(schema, algorithm).map(({ name }) => name))
    return wanted.every((name) => known.has(name))
  })
  if (found.length > 0) return found
  throw new DrcorlError('Usage', `no algorithm has all of ${wanted.join(', ')}`, {
    hint: 'see: drcorl list algorithms',
  })
}
