import { readFileSync } from 'node:fs'
import { DrcorlError, describeFsError } from '../base/errors.js'

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
  pattern?: string
  [keyword: string]: unknown
}

export interface Preset {
  summary: string
  run: Record<string, unknown>
  config: Record<string, unknown>
}

export interface AlgorithmSchema {
  label: string
  summary: string
  schema: JsonSchema
  presets: Record<string, Preset>
}

/** What `describe()` of the core prints, generated into `schema.json`: the one source of all parameters. */
export interface Schema {
  algorithms: Record<string, AlgorithmSchema>
  run: { schema: JsonSchema }
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
  /** Of the items, when the parameter is a list. */
  items?: Parameter
  /** Of a list with a fixed number of items. */
  length?: number
}

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
  const own = schema.algorithms[algorithm]
  return [...parametersOf(schema.run.schema), ...(own === undefined ? [] : parametersOf(own.schema))]
}

/** Words for what a parameter accepts: `number >= 0`, `one of: "auto", "cpu"`, `list of integers >= 1, or null`. */
export function allowedValues(parameter: Parameter): string {
  const words = describeType(parameter, false)
  return parameter.nullable ? `${words}, or null` : words
}

function describeType(parameter: Parameter, plural: boolean): string {
  if (parameter.choices.length > 0) {
    return `one of: ${parameter.choices.map((choice) => JSON.stringify(choice.value)).join(', ')}`
  }
  const types = [...parameter.types]
  const s = plural ? 's' : ''
  const names = types.map((type) => {
    if (type === 'array') {
      const of = parameter.items ? describeType(parameter.items, true) : 'values'
      return `list${s} of ${parameter.length === undefined ? '' : `${parameter.length} `}${of}`
    }
    if (type === 'boolean') return plural ? 'booleans' : 'true or false'
    return `${type}${s}`
  })
  const pattern = parameter.pattern === undefined ? '' : `matching ${parameter.pattern}`
  return [names.join(' or ') || 'any value', range(parameter), pattern].filter(Boolean).join(' ')
}

function range(parameter: Parameter): string {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = parameter
  const low = exclusiveMinimum !== undefined ? `> ${exclusiveMinimum}` : minimum !== undefined ? `>= ${minimum}` : ''
  const high = exclusiveMaximum !== undefined ? `< ${exclusiveMaximum}` : maximum !== undefined ? `<= ${maximum}` : ''
  return [low, high].filter(Boolean).join(' and ')
}

/**
 * Reads one property: follows `$ref`, and folds the forms schemars uses for enums and options (`oneOf` of consts,
 * `anyOf` with null, `type: [.., "null"]`) into one flat description.
 */
function readParameter(name: string, property: JsonSchema, root: JsonSchema): Parameter {
  const types = new Set<string>()
  const choices: { value: unknown; description: string }[] = []
  const limits: Pick<Parameter, 'minimum' | 'maximum' | 'exclusiveMinimum' | 'exclusiveMaximum' | 'pattern'> = {}
  let items: Parameter | undefined
  let length: number | undefined

  const visit = (node: JsonSchema): void => {
    if (node.$ref !== undefined) visit(resolve(node.$ref, root))
    for (const type of [node.type ?? []].flat()) types.add(type)
    for (const value of node.enum ?? []) addChoice(value, '')
    if ('const' in node) addChoice(node.const, node.description ?? '')
    for (const keyword of ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'] as const) {
      const bound = node[keyword]
      if (typeof bound === 'number') limits[keyword] = bound
    }
    if (node.pattern !== undefined) limits.pattern = node.pattern
    if (node.items !== undefined) items = readParameter(`${name}[]`, node.items, root)
    if (node.minItems !== undefined && node.minItems === node.maxItems) length = node.minItems
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
    ...(length === undefined ? {} : { length }),
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
