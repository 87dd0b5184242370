import { readFileSync } from 'node:fs'
import test from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { accepts, admit, nearest } from '../../src/config/admit.js'
import { type JsonSchema, parametersOf } from '../../src/config/schema.js'

type Values = Record<string, unknown>

interface Table {
  schema: JsonSchema
  accepted: Values[]
  refused: [values: Values, message: string][]
}

const TABLE = JSON.parse(
  readFileSync(new URL('../../crates/core/src/schema/cases.json', import.meta.url), 'utf8'),
) as Table
const PARAMETERS = parametersOf(TABLE.schema)

test('the table of refusals, which the core reads too', (t) => {
  for (const values of TABLE.accepted) t.notThrows(() => admit(values, PARAMETERS, 'bc'))
  for (const [values, message] of TABLE.refused) {
    const error = t.throws(() => admit(values, PARAMETERS, 'bc'), { instanceOf: DrcorlError }, message)
    t.is(error?.message, message)
    t.is(error?.code, 'Config')
  }
})

test('an error says where a value came from', (t) => {
  const refuse = (values: Values): string | undefined =>
    t.throws(() => admit(values, PARAMETERS, 'bc', (key) => `flag --${key}`))?.message
  t.is(refuse({ cost_limit: -4 }), 'cost_limit is -4 (from flag --cost_limit); give a number of at least 0')
  t.is(refuse({ costlimit: 4 }), 'costlimit is not a parameter of bc (from flag --costlimit); did you mean cost_limit?')
})

test('numbers that JSON cannot write are refused', (t) => {
  const free = PARAMETERS.find(({ name }) => name === 'free')
  for (const value of [Number.NaN, Infinity, -Infinity, undefined, 1n]) t.false(free && accepts(free, value))
})

test('nearest finds a neighbour, and only a near one', (t) => {
  t.is(nearest('costlimit', ['seed', 'cost_limit']), 'cost_limit')
  t.is(nearest('se', ['cost_limit']), undefined)
})
