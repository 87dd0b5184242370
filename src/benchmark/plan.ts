/**
 * What a benchmark consists of: every target, algorithm, limit and seed is one cell, trained and judged in a folder of
 * its own. An algorithm whose policy takes a limit has one cell for all of them: it is trained once.
 */
import { join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { parseFlag, resolveConfig } from '../config/load.js'
import { type Schema, loadSchema, parametersFor } from '../config/schema.js'
import { taskOf } from '../data/dataset.js'
import { scaledSteps } from './budget.js'

/** A dataset, and the environment that judges what is learnt from it. */
export interface Target {
  /** Name in tables and folders. */
  name: string
  /** What `loadDataset` takes. */
  dataset: string
  /** What `evaluate` takes; null where policies are judged offline only. */
  env: string | null
  /** Limits of the task's protocol. */
  cost_limits: readonly number[]
}

/** Parameters that runs differ in. */
export interface Variant {
  /** In tables and folders. */
  name: string
  /** `name=value` of an algorithm that must have it. */
  set: readonly string[]
}

/** How runs are watched while they train: see `evalEvery` of `train`. */
export interface Watch {
  every: number
  episodes: number
}

/** One run of a benchmark. */
export interface Cell {
  target: Target
  algorithm: string
  preset: string
  /** What it is trained and certified with: the first of `cost_limits`. */
  cost_limit: number
  /** What its policy is asked to keep in the environment; several only where it takes a limit. */
  cost_limits: readonly number[]
  seed: number
  /** What it differs in from its neighbours; null where only algorithm, limit and seed differ. */
  variant: string | null
  watch: Watch | null
  /** Parameters given by hand, the limit and the seed among them. */
  config: Record<string, unknown>
  folder: string
  /** Folder of the target, where its cells share the models behind their certificates. */
  shared: string
  /** Equal for cells that share one pretraining; null for one that shares none. */
  pretraining: string | null
}

export interface BenchmarkOptions {
  targets: readonly Target[]
  /** Default every registered algorithm. */
  algorithms?: readonly string[] | undefined
  /** Presets with commas between them: the first that an algorithm has, else its own first. */
  preset?: string | undefined
  /** Default the limits of each target. */
  cost_limits?: readonly number[] | undefined
  seeds: readonly number[]
  /** `name=value` for every algorithm that has the parameter, `algorithm.name=value` for one. */
  set?: readonly string[] | undefined
  /** Every one of them is run; an algorithm that lacks a parameter is refused. Default one run without. */
  variants?: readonly Variant[] | undefined
  /** Watches every run in the environment of its target. */
  watch?: Watch | undefined
  /** Multiplies every count of updates of every algorithm; `set` and `variants` win over it. Default 1. */
  budget?: number | undefined
  out: string
}

/**
 * All cells in the order of the table: targets, algorithms, limits, seeds.
 *
 * @throws DrcorlError `Usage` for an unknown algorithm, preset or parameter, and where nothing is left to run.
 */
export function planCells(options: BenchmarkOptions): Cell[] {
  const schema = loadSchema()
  const algorithms = options.algorithms ?? Object.keys(schema.algorithms)
  for (const name of algorithms) requireAlgorithm(name, schema)
  const presets = new Map(algorithms.map((name) => [name, choosePreset(name, options.preset, schema)]))
  const overrides = parseOverrides(options.set ?? [], algorithms, schema)
  const { budget = 1 } = options
  const watch = options.watch ?? null
  requireWatchable(options)
  const cells = options.targets.flatMap((target) =>
    algorithms.flatMap((algorithm) => {
      const preset = presets.get(algorithm)!
      const scaled = scaledSteps({ algorithm, preset, task: taskOf(target.dataset) }, budget, schema)
      return variantsOf(algorithm, options.variants, schema).flatMap(({ variant, own }) =>
        groupLimits(options.cost_limits ?? target.cost_limits, target, algorithm, schema).flatMap((cost_limits) =>
          options.seeds.map((seed): Cell => {
            const cost_limit = cost_limits[0]!
            const config = { ...scaled, ...overrides.get(algorithm), ...own, cost_limit, seed }
            const place = variant === null ? [] : [variant.replaceAll(/[^\w.,=+ -]/g, '_')]
            const shared = join(options.out, target.name)
            const folder = join(shared, algorithm, ...place, `l${cost_limits.join('-')}-s${seed}`)
            const pretraining = watch === null ? sharedBy(target, algorithm, preset, config, schema) : null
            return {
              target,
              algorithm,
              preset,
              cost_limit,
              cost_limits,
              seed,
              variant,
              watch,
              config,
              folder,
              shared,
              pretraining,
            }
          }),
        ),
      )
    }),
  )
  if (cells.length === 0) throw new DrcorlError('Usage', 'the benchmark is empty: give targets, limits and seeds')
  return cells
}

/**
 * All that a pretraining depends on, as text; null where the algorithm has none. A watched run makes its own: what is
 * taken over was not watched.
 */
function sharedBy(
  { dataset }: Target,
  algorithm: string,
  preset: string,
  flags: Record<string, unknown>,
  schema: Schema,
): string | null {
  const shared = schema.algorithms[algorithm]?.pretraining
  if (!shared) return null
  let values: Record<string, unknown>
  try {
    const { run, config } = resolveConfig({ algorithm, preset, flags, task: taskOf(dataset) })
    values = { ...run, ...config }
  } catch {
    // The cell's own run says what is wrong.
    return null
  }
  const isLater = (name: string): boolean =>
    shared.later.includes(name) &&
    !shared.unless.some(({ parameter, other, value }) => parameter === name && values[other] === value)
  const early = Object.entries(values).filter(([name]) => !isLater(name))
  return JSON.stringify([dataset, algorithm, Object.fromEntries(early.toSorted(([a], [b]) => (a < b ? -1 : 1)))])
}

function requireWatchable({ watch, targets }: BenchmarkOptions): void {
  const blind = watch === undefined ? undefined : targets.find(({ env }) => env === null)
  if (blind !== undefined) throw new DrcorlError('Usage', `${blind.name} has no environment to watch policies in`)
}

/** The variants with the values that their texts mean for this algorithm. */
function variantsOf(
  algorithm: string,
  variants: readonly Variant[] | undefined,
  schema: Schema,
): { variant: string | null; own: Record<string, unknown> }[] {
  if (variants === undefined) return [{ variant: null, own: {} }]
  return variants.map(({ name, set }) => {
    return { variant: name, own: parseOverrides(set, [algorithm], schema, '--vary').get(algorithm)! }
  })
}

/** Limits that one policy serves. What models alone judge has one each: a certificate is for the limit of its run. */
function groupLimits(
  limits: readonly number[],
  { env }: Target,
  algorithm: string,
  schema: Schema,
): (readonly number[])[] {
  if (env === null || schema.algorithms[algorithm]?.takes_limit !== true) return limits.map((limit) => [limit])
  return limits.length === 0 ? [] : [limits]
}

/** @throws DrcorlError `Usage`. */
export function requireAlgorithm(name: string, schema: Schema): void {
  const known = Object.keys(schema.algorithms)
  if (!known.includes(name)) {
    throw new DrcorlError('Usage', `--algorithms: "${name}" is unknown; known: ${known.join(', ')}`)
  }
}

/**
 * The first of the presets asked for that an algorithm has.
 *
 * @param asked names with commas between them.
 * @param otherwise where it has none of them; left out, its own first.
 * @throws DrcorlError `Usage` for a name that is no preset of any algorithm.
 */
export function choosePreset(algorithm: string, asked: string | undefined, schema: Schema, otherwise?: string): string {
  const known = Object.keys(schema.algorithms[algorithm]!.presets)
  const everywhere = new Set(Object.values(schema.algorithms).flatMap(({ presets }) => Object.keys(presets)))
  const wishes = asked?.split(',').map((name) => name.trim()) ?? []
  const unknown = wishes.find((name) => name !== 'none' && !everywhere.has(name))
  if (unknown !== undefined) {
    throw new DrcorlError('Usage', `--preset: "${unknown}" is unknown; known: ${[...everywhere, 'none'].join(', ')}`)
  }
  return wishes.find((name) => name === 'none' || known.includes(name)) ?? otherwise ?? known[0] ?? 'none'
}

/**
 * Parameters by algorithm.
 *
 * @throws DrcorlError `Usage` for a text that names no parameter of any of them.
 */
export function parseOverrides(
  texts: readonly string[],
  algorithms: readonly string[],
  schema: Schema,
  flag = '--set',
): Map<string, Record<string, unknown>> {
  const overrides = new Map(algorithms.map((name) => [name, {} as Record<string, unknown>]))
  for (const text of texts) {
    const [, scope, name = '', value = ''] = /^(?:(\w+)\.)?(\w+)=(.*)$/s.exec(text) ?? []
    const places = (scope === undefined ? algorithms : algorithms.filter((one) => one === scope)).flatMap((one) => {
      const parameter = parametersFor(schema, one).find((candidate) => candidate.name === name)
      return parameter === undefined ? [] : [{ one, parameter }]
    })
    if (places.length === 0 || name === 'cost_limit' || name === 'seed') {
      throw new DrcorlError('Usage', `${flag} "${text}" names no parameter of ${scope ?? algorithms.join(', ')}`, {
        hint: 'write NAME=VALUE or ALGORITHM.NAME=VALUE; limits and seeds have options of their own',
      })
    }
    for (const { one, parameter } of places) overrides.get(one)![name] = parseFlag(value, parameter)
  }
  return overrides
}
