/** Turns the schema's parameters into command-line flags, and flags back into parameters. */
import type { Argv } from 'yargs'
import { parseFlag, presetValues } from '../config/load.js'
import {
  type Parameter,
  type Schema,
  allowedValues,
  defaultAlgorithm,
  parametersFor,
  parametersOf,
} from '../config/schema.js'
import type { Arguments } from './command.js'

interface Flag {
  parameter: Parameter
  /** Heading in the help text. */
  group: string
  /** False for the parameters of an algorithm that is not asked about. */
  shown: boolean
}

/** Every parameter of every algorithm by name; where algorithms share a name, the chosen one's meaning counts. */
function flagsOf(schema: Schema, algorithm: string | undefined): Map<string, Flag> {
  const flags = new Map<string, Flag>()
  for (const parameter of parametersOf(schema.run.schema)) {
    flags.set(parameter.name, { parameter, group: 'Parameters of every run:', shown: true })
  }
  const names = Object.keys(schema.algorithms)
  const order = algorithm !== undefined && names.includes(algorithm) ? [algorithm, ...names] : names
  for (const name of order) {
    for (const parameter of parametersOf(schema.algorithms[name]?.schema ?? {})) {
      if (flags.has(parameter.name)) continue
      flags.set(parameter.name, { parameter, group: `Parameters of ${name}:`, shown: name === algorithm })
    }
  }
  return flags
}

/** Names of all parameters of all algorithms. */
export function parameterNames(schema: Schema): string[] {
  return [...flagsOf(schema, undefined).keys()]
}

/**
 * Accepts `--cost-limit` for `--cost_limit` (and `--no-cost-x`) before yargs sees it: help and errors then know one
 * spelling only.
 */
export function normaliseFlags(argv: readonly string[], schema: Schema): string[] {
  const known = new Set(parameterNames(schema))
  const end = argv.indexOf('--')
  return argv.map((argument, index) => {
    const match = /^--(no-)?([a-zA-Z0-9-]+)(=[^]*)?$/.exec(argument)
    if (match === null || (end >= 0 && index > end)) return argument
    const [, no = '', name = '', value = ''] = match
    const snake = name.replace(/-/g, '_')
    return known.has(snake) ? `--${no}${snake}${value}` : argument
  })
}

/**
 * Declares all parameters as options; only those of `algorithm`, if given, and of every run show in the help. Their
 * defaults are those in force: of `preset`, or of the preset an algorithm has where none is asked for.
 */
export function declareParameters(
  yargs: Argv,
  schema: Schema,
  algorithm: string | undefined,
  preset: string | undefined,
): Argv {
  const inForce = presetValues(schema, algorithm ?? defaultAlgorithm(schema), preset)
  for (const [name, { parameter, group, shown }] of flagsOf(schema, algorithm)) {
    const boolean = isBoolean(parameter)
    yargs.option(name, {
      describe: describe(parameter, inForce),
      group,
      hidden: !shown,
      // Text is converted later, by the parameter's own type: yargs would turn a mistyped number into NaN.
      ...(boolean ? { boolean: true } : { requiresArg: true }),
    })
  }
  return yargs
}

/** Declares some parameters as options, with the schema's own defaults. */
export function declareOptions(yargs: Argv, parameters: readonly Parameter[], group: string): Argv {
  for (const parameter of parameters) {
    const boolean = isBoolean(parameter)
    const help = describe(parameter, { preset: null, values: {} })
    yargs.option(parameter.name, { describe: help, group, ...(boolean ? { boolean: true } : { requiresArg: true }) })
  }
  return yargs
}

/** The parameters present on the command line, converted by their type. */
export function collectParameters(args: Arguments, schema: Schema, algorithm: string): Record<string, unknown> {
  const values: Record<string, unknown> = {}
  const own = new Map(parametersFor(schema, algorithm).map((parameter) => [parameter.name, parameter]))
  for (const [name, flag] of flagsOf(schema, algorithm)) {
    const given = args[name]
    if (given === undefined) continue
    values[name] = typeof given === 'string' ? parseFlag(given, own.get(name) ?? flag.parameter) : given
  }
  return values
}

function isBoolean(parameter: Parameter): boolean {
  return parameter.types.size === 1 && parameter.types.has('boolean') && !parameter.nullable
}

function describe(parameter: Parameter, { preset, values }: ReturnType<typeof presetValues>): string {
  const facts = [allowedValues(parameter)]
  if (Object.hasOwn(values, parameter.name)) {
    facts.push(`default ${JSON.stringify(values[parameter.name])} by preset ${preset}`)
  } else if (parameter.default !== undefined) facts.push(`default ${JSON.stringify(parameter.default)}`)
  return [parameter.description, `(${facts.join('; ')})`].filter(Boolean).join(' ')
}
