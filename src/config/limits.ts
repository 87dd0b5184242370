/** Limits on several costs: their names are columns of the dataset, the first takes the place of `cost_limit`. */
import { DrcorlError } from '../base/errors.js'

/** Name of the cost that every dataset has and every environment gives. */
export const OWN_COST = 'costs'

/** Limits by the names of their costs, in their order. */
export type NamedLimits = readonly (readonly [name: string, limit: number])[]

/** The limits of a run; empty where `cost_limit` bounds the data's own costs. */
export function limitsOf(run: Readonly<Record<string, unknown>>): NamedLimits {
  const limits = run['limits']
  return typeof limits === 'object' && limits !== null ? (Object.entries(limits) as [string, number][]) : []
}

/** Names of the costs that a run bounds; none where it names none. */
export const costNames = (run: Readonly<Record<string, unknown>>): string[] => limitsOf(run).map(([name]) => name)

/** The costs of these limits as `loadDataset` and `rollout` take them: undefined leaves the own ones. */
export const costsIn = (limits: NamedLimits): string[] | undefined =>
  limits.length === 0 ? undefined : limits.map(([name]) => name)

/** The same of the limits of a run. */
export const costsOf = (run: Readonly<Record<string, unknown>>): string[] | undefined => costsIn(limitsOf(run))

/** Limits with `costs` for the data's own, which may be called `cost` too. */
export function named(limits: unknown): unknown {
  if (typeof limits !== 'object' || limits === null || Array.isArray(limits)) return limits
  return Object.fromEntries(Object.entries(limits).map(([name, limit]) => [name === 'cost' ? OWN_COST : name, limit]))
}

/**
 * Lets the first of the limits be the `cost_limit`.
 *
 * @param layers what was given, the last one wins; `values` is what they make.
 * @throws DrcorlError `Config` where both are asked for and disagree.
 */
export function takeLimits(
  values: Record<string, unknown>,
  origins: Record<string, string>,
  layers: readonly { values: Readonly<Record<string, unknown>> }[],
): void {
  const limits = limitsOf(values)
  const [first] = limits
  if (first === undefined) return
  const numbered = limits.find(([name]) => limits.length > 1 && /^\d+$/.test(name))
  if (numbered !== undefined) {
    // Objects of JavaScript list such keys before all others.
    throw new DrcorlError('Config', `limits bounds a cost called ${numbered[0]}, which has no place among several`, {
      hint: 'give the column a name that is no number',
    })
  }
  const [name, limit] = first
  const last = (key: string): number => layers.findLastIndex((layer) => Object.hasOwn(layer.values, key))
  if (last('cost_limit') >= last('limits') && values['cost_limit'] !== limit) {
    const [one, other] = [origins['cost_limit'], origins['limits']]
    throw new DrcorlError(
      'Config',
      `cost_limit is ${String(values['cost_limit'])} (from ${one}), and limits bounds ${name} (from ${other}); leave cost_limit out: the first of limits takes its place`,
    )
  }
  values['cost_limit'] = limit
  origins['cost_limit'] = origins['limits']!
}

/**
 * `NAME=NUMBER` of `--limit`, in their order.
 *
 * @throws DrcorlError `Usage` naming the entry.
 */
export function readLimits(entries: readonly string[]): Record<string, number> {
  const limits = new Map<string, number>()
  for (const entry of entries.flatMap((text) => text.split(','))) {
    const [, name = '', text = ''] = /^([^=]+)=(.+)$/.exec(entry.trim()) ?? []
    const limit = Number(text)
    if (name === '' || !Number.isFinite(limit)) {
      throw new DrcorlError('Usage', `--limit "${entry}" is not NAME=NUMBER`, {
        hint: 'for example --limit energy=200',
      })
    }
    if (limits.has(name))
      throw new DrcorlError('Usage', `--limit gives ${name} twice: ${limits.get(name)} and ${limit}`)
    limits.set(name, limit)
  }
  return Object.fromEntries(limits)
}
