import { readFileSync } from 'node:fs'
import { DrcorlError, describeFsError } from '../base/errors.js'
import type { Metric } from './results.js'
import { own } from '../base/own.js'

/** A JSON Schema as schemars 1.x writes it (draft 2020-12); only the keywords read here are typed. */
export interface JsonSchema {
  $ref?: string
  $defs?: Record<string, JsonSchema>
  type?: string | string[]
  description?: string
  default?: unknown
  properties?: Record<string, JsonSchema>
  required?: string[]
  additionalProperties?: boolean | JsonSchema
  items?: JsonSchema
  enum?: unknown[]
  const?: unknown
  oneOf?: JsonSchema[]
  anyOf?: JsonSchema[]
  allOf?: JsonSchema[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  minItems?: number
  maxItems?: number
  maxProperties?: number
  pattern?: string
  [keyword: string]: unknown
}

export interface Preset {
  summary: string
  run: Record<string, unknown>
  config: Record<string, unknown>
  /** What the preset changes besides for tasks of these names. */
  tasks: Record<string, Record<string, unknown>>
}

export interface AlgorithmSchema {
  label: string
  summary: string
  schema: JsonSchema
  presets: Record<string, Preset>
  /** Every metric a run may report, in the order in which they are told. */
  metrics: readonly Metric[]
  /** What the algorithm adds to a certificate; null where it adds nothing. */
  diagnostics: JsonSchema | null
  /** One policy serves every limit (setting `cost_limit`): it is trained once and asked to keep each. */
  takes_limit: boolean
  /** The first phases, which runs of other parameters may take over; null where nothing is shared. */
  pretraining: Pretraining | null
}

/** What runs of one algorithm share. */
export interface Pretraining {
  /** It ends where this phase begins. */
  before: string
  /** Parameters, also of the run, that nothing reads earlier; all others must agree. */
  later: readonly string[]
  /** Parameters of `later` that a value of another one makes matter earlier after all. */
  unless: readonly { parameter: string; other: string; value: string; why: string }[]
}

/** What `describe()` of the core prints, generated into `schema.json`: the one source of all parameters. */
export interface Schema {
  algorithms: Record<string, AlgorithmSchema>
  run: { schema: JsonSchema }
  /** What a run tells and leaves; a definition a type. */
  results: { schema: JsonSchema }
}

/** One parameter, read out of its schema in the words that help texts and errors need. */
export interface Parameter {
  name: string
  description: string
  /** `number`, `integer`, `boolean`, `string`, `array` or `object`, and what `null` adds. */
  types: ReadonlySet<string>
  nullable: boolean
  /** The allowed values of an enumeration, each with its own description (may be empty). */
  choices: readonly { value: unknown; description: string }[]
  minimum?: number
  maximum?: number
  exclusiveMinimum?: number
  exclusiveMaximum?: number
  /** Regular expression of a string. */
  pattern?: string
  /** Undefined when the schema states none: then the parameter is required or decided by the core. */
  default: unknown
  /** Of the items, when the parameter is a list, or a table by names. */
  items?: Parameter
  /** Least and largest length, when the parameter is a list or a table. */
  minItems?: number
  maxItems?: number
}

const LIMITS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'minItems', 'maxItems'] as const

let cached: Schema | undefined

/**
 * The schema generated from the Rust configs (`npm run codegen`), read once.
 *
 * @throws DrcorlError `Internal` when the file is missing, which only an unfinished build can cause.
 */
export function loadSchema(): Schema {
  if (cached === undefined) {
    const file = new URL('./schema.json', import.meta.url)
    try {
      cached = JSON.parse(readFileSync(file, 'utf8')) as Schema
    } catch (error) {
      throw new DrcorlError('Internal', `cannot read the generated ${file.pathname}: ${describeFsError(error)}`, {
        cause: error,
        hint: 'run: npm run setup',
      })
    }
  }
  return cached
}

/** The schema, or null where it cannot be read: then a report still opens, with plain names and unchecked files. */
export function knownSchema(): Schema | null {
  try {
    return loadSchema()
  } catch {
    return null
  }
}

/** The metrics of a run with that algorithm, in the order in which they are told; none for an unknown one. */
export function metricsOf(algorithm: string, schema: Schema | null = knownSchema()): readonly Metric[] {
  return own(schema?.algorithms ?? {}, algorithm)?.metrics ?? []
}

/** The algorithm a user gets without naming one. */
export function defaultAlgorithm(schema: Schema): string {
  const names = Object.keys(schema.algorithms)
  return names.includes('drcorl') ? 'drcorl' : (names[0] ?? 'drcorl')
}

/** All parameters of one object schema, in the schema's order. */
export function parametersOf(schema: JsonSchema): Parameter[] {
  return Object.entries(schema.properties ?? {}).map(([name, property]) => readParameter(name, property, schema))
}

/** The run parameters, then those of one algorithm. */
export function parametersFor(schema: Schema, algorithm: string): Parameter[] {
  const entry = own(schema.algorithms, algorithm)
  return [...parametersOf(schema.run.schema), ...(entry === undefined ? [] : parametersOf(entry.schema))]
}

/**
 * Words for what a parameter accepts, in help, tables and errors: `a number above 0 and at most 1`,
 * `one of "auto", "cpu"`, `a list of 3 integers of at least 1, or null`.
 */
export function allowedValues(parameter: Parameter): string {
  return `${describeType(parameter, false)}${parameter.nullable ? ', or null' : ''}`
}

function describeType(parameter: Parameter, plural: boolean): string {
  const { choices, pattern, types } = parameter
  if (choices.length > 0) return `one of ${choices.map((choice) => JSON.stringify(choice.value)).join(', ')}`
  const nouns = [...types].map((type) => noun(parameter, type, plural)).join(' or ')
  const matching = pattern === undefined ? '' : `matching ${pattern}`
  return [nouns || 'any value', range(parameter), matching].filter(Boolean).join(' ')
}

const NOUNS: Record<string, readonly [one: string, many: string]> = {
  boolean: ['true or false', 'true or false'],
  integer: ['an integer', 'integers'],
  number: ['a number', 'numbers'],
  string: ['a text', 'texts'],
}

function noun(parameter: Parameter, type: string, plural: boolean): string {
  const { items, minItems = 0, maxItems } = parameter
  if (type === 'object') {
    return `${maxItems === undefined ? '' : `up to ${maxItems} `}names with ${items ? describeType(items, true) : 'values'}`
  }
  if (type !== 'array') return NOUNS[type]?.[plural ? 1 : 0] ?? type
  const some = minItems === 0 ? '' : `at least ${minItems} `
  const closed = maxItems === minItems ? `${minItems} ` : `${minItems} to ${maxItems} `
  const of = items === undefined ? 'values' : describeType(items, true)
  return `${plural ? 'lists' : 'a list'} of ${maxItems === undefined ? some : closed}${of}`
}

function range(parameter: Parameter): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = parameter
  const open = exclusiveMinimum !== undefined || exclusiveMaximum !== undefined
  if (!open && minimum !== undefined && maximum !== undefined) return `from ${minimum} to ${maximum}`
  const least = minimum === undefined ? '' : `of at least ${minimum}`
  const low = exclusiveMinimum === undefined ? least : `above ${exclusiveMinimum}`
  const most = maximum === undefined ? '' : `${low === '' ? 'of at most' : 'at most'} ${maximum}`
  const high = exclusiveMaximum === undefined ? most : `below ${exclusiveMaximum}`
  return [low, high].filter(Boolean).join(' and ')
}

/**
 * Reads one property: follows `$ref`, and folds the forms schemars uses for enums and options (`oneOf` of consts,
 * `anyOf` with null, `type: [.., "null"]`) into one flat description.
 */
function readParameter(name: string, property: JsonSchema, root: JsonSchema): Parameter {
  const types = new Set<string>()
  const choices: { value: unknown; description: string }[] = []
  const limits: Partial<Record<(typeof LIMITS)[number], number>> & { pattern?: string } = {}
  let items: Parameter | undefined

  const visit = (node: JsonSchema): void => {
    if (node.$ref !== undefined) visit(resolve(node.$ref, root))
    for (const type of [node.type ?? []].flat()) types.add(type)
    for (const value of node.enum ?? []) addChoice(value, '')
    if ('const' in node) addChoice(node.const, node.description ?? '')
    for (const keyword of LIMITS) {
      const bound = node[keyword]
      if (typeof bound === 'number') limits[keyword] = bound
    }
    if (node.pattern !== undefined) limits.pattern = node.pattern
    if (node.maxProperties !== undefined) limits.maxItems = node.maxProperties
    const inside = node.items ?? node.additionalProperties
    if (typeof inside === 'object') items = readParameter(`${name}[]`, inside, root)
    for (const branch of [...(node.oneOf ?? []), ...(node.anyOf ?? []), ...(node.allOf ?? [])]) visit(branch)
  }
  const addChoice = (value: unknown, description: string): void => {
    if (value === null) types.add('null')
    else choices.push({ value, description: oneLine(description) })
  }
  visit(property)

  const nullable = types.delete('null')
  const description = property.description ?? (property.$ref ? resolve(property.$ref, root).description : undefined)
  return {
    name,
    description: oneLine(description ?? ''),
    types,
    nullable,
    choices,
    ...limits,
    default: property.default,
    ...(items === undefined ? {} : { items }),
  }
}

function resolve(ref: string, root: JsonSchema): JsonSchema {
  const name = /^#\/\$defs\/(.+)$/.exec(ref)?.[1]
  const found = name === undefined ? undefined : root.$defs?.[name]
  if (found === undefined) throw new DrcorlError('Internal', `schema.json: the reference ${ref} leads nowhere`)
  return found
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim()
}
