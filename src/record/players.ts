/** What a recording may be told to play: a run, a policy file, an export, a module, uniform draws, or an object. */
import { stat } from 'node:fs/promises'
import { extname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { DrcorlError, messageOf } from '../base/errors.js'
import { exists, sha256File } from '../base/files.js'
import type { VecEnv } from '../envs/env.js'
import { Random } from '../envs/random.js'
import { openPolicy, policyFile } from '../export/open.js'
import type { LoadedPolicy, MaybePromise, Policy } from '../policy/policy.js'
import { RUN_FILES, holdsRun } from '../train/run-folder.js'

/** A policy, and how often it plays. */
export interface PolicyShare {
  /** Run folder, policy file, exported model, module (`.js`, `.mjs`), `random`, or a policy as an object. */
  policy: string | Policy
  /** Episodes it plays are in proportion to it; default 1. */
  weight?: number | undefined
}

/** What a module's default export is told, where it is a function. */
export interface RecordedEnv {
  id: string
  obs_dim: number
  act_dim: number
  /** Steps after which an episode is truncated. */
  episode_length: number
  /** The box of the actions, [A] each. */
  action_low: readonly number[]
  action_high: readonly number[]
}

/** A policy that was found, and is yet to meet its environment. */
export interface Player {
  /** As it was named. */
  policy: string
  weight: number
  /** Of its file; null for `random` and objects. */
  sha256: string | null
  /** What it is asked for instead of what its file says. */
  settings: Record<string, number>
  runtime: string | null
  /** Explores by itself: no noise is added. */
  isRandom: boolean
  make: (env: RecordedEnv) => MaybePromise<Policy>
}

const RANDOM = 'random'
const MODULES = /^\.[cm]?js$/

/**
 * Finds the policies named; files are opened, modules are imported.
 *
 * @throws DrcorlError `Usage`, `Io` or `Data` (exit status 2).
 */
export async function findPlayers(
  shares: readonly PolicyShare[],
  settings: Record<string, number> = {},
): Promise<Player[]> {
  if (shares.length === 0) {
    throw new DrcorlError('Usage', 'no policy is named', { hint: 'for example --policy RUN --policy random=0.2' })
  }
  const players: Player[] = []
  for (const { policy, weight = 1 } of shares) {
    const name = typeof policy === 'string' ? policy : policy.name
    if (!(weight > 0) || !Number.isFinite(weight)) {
      throw new DrcorlError('Usage', `weight ${weight} of ${name} must be a number above 0`)
    }
    if (players.some((player) => player.policy === name)) {
      throw new DrcorlError('Usage', `policy ${name} is named twice; give it once, with a weight`)
    }
    players.push({ policy: name, weight, ...(await find(policy, settings)) })
  }
  const unknown = Object.keys(settings).find((name) => !players.some((player) => name in player.settings))
  if (unknown === undefined) return players
  throw new DrcorlError('Usage', `${unknown} is no setting of ${players.map(({ policy }) => policy).join(' or ')}`)
}

async function find(
  policy: string | Policy,
  settings: Record<string, number>,
): Promise<Omit<Player, 'policy' | 'weight'>> {
  const none = { sha256: null, settings: {}, runtime: null, isRandom: false }
  if (typeof policy !== 'string') return { ...none, make: () => policy }
  if (policy === RANDOM) return { ...none, isRandom: true, make: (env) => new Uniform(env) }
  if (MODULES.test(extname(policy))) {
    const make = await importModule(policy)
    return { ...none, sha256: await sha256File(policy), make }
  }
  const path = await fileOf(policy)
  const loaded = await openPolicy(path)
  const taken = 'settings' in loaded ? (loaded as LoadedPolicy).settings : {}
  const asked = Object.fromEntries(Object.entries(settings).filter(([name]) => name in taken))
  const set = Object.keys(asked).length === 0 ? loaded : await openPolicy(path, { settings: asked })
  return { ...none, sha256: await sha256File(path), settings: asked, runtime: set.runtime ?? null, make: () => set }
}

/** The policy of a run that ships, or the file itself. */
async function fileOf(path: string): Promise<string> {
  if (!(await holdsRun(path))) {
    if (await exists(path)) return policyFile(path)
    throw new DrcorlError('Io', `cannot read ${path}: no such file or folder`, {
      exitStatus: 2,
      hint: `a policy is a run folder, a policy file, a module (.mjs) or ${RANDOM}`,
    })
  }
  const file = join(path, RUN_FILES.policy)
  if (await exists(file)) return file
  throw new DrcorlError('Io', `${path} holds no ${RUN_FILES.policy}: its training has not ended`, {
    exitStatus: 2,
    hint: `go on with: drcorl train --resume ${path}`,
  })
}

/** Runs code: nothing but the user's own word may name the path. */
async function importModule(path: string): Promise<Player['make']> {
  const found = await stat(path).catch(() => undefined)
  if (found?.isFile() !== true) {
    throw new DrcorlError('Io', `cannot read ${path}: no such file`, { exitStatus: 2 })
  }
  const loaded = await import(pathToFileURL(resolve(path)).href).catch((error: unknown) => {
    throw new DrcorlError('Usage', `${path} cannot be imported: ${messageOf(error)}`, { cause: error })
  })
  const exported = (loaded as { default?: unknown }).default
  if (typeof exported === 'function') {
    return async (env) => requirePolicy(await (exported as (env: RecordedEnv) => unknown)(env), path)
  }
  const policy = requirePolicy(exported, path)
  return () => policy
}

function requirePolicy(value: unknown, path: string): Policy {
  const policy = value as Policy | null | undefined
  if (typeof policy?.act === 'function' && typeof policy.reset === 'function') return policy
  throw new DrcorlError('Usage', `${path} exports no policy`, {
    hint: 'let its default export be a policy, or a function that makes one from the environment: docs/data.md#record',
  })
}

/** Uniform over the box, by the seed of the episode alone. */
class Uniform implements Policy {
  readonly name = RANDOM
  readonly obs_dim: number
  readonly act_dim: number
  private readonly draws: Random[] = []

  constructor(private readonly env: RecordedEnv) {
    requireBox(env, `${RANDOM} plays`)
    this.obs_dim = env.obs_dim
    this.act_dim = env.act_dim
  }

  reset(rows: readonly number[], seeds: readonly number[] = rows): void {
    rows.forEach((row, index) => (this.draws[row] = new Random(seeds[index]!, ACTION_STREAM)))
  }

  act(observations: Float32Array): Float32Array {
    const { action_low: low, action_high: high, act_dim } = this.env
    const actions = new Float32Array((observations.length / this.obs_dim) * act_dim)
    return actions.map((_, index) => {
      const entry = index % act_dim
      return this.draws[Math.floor(index / act_dim)]!.between(low[entry]!, high[entry]!)
    })
  }
}

/** Tells the draws of an episode's actions from those of its environment. */
const ACTION_STREAM = 1

/** @throws DrcorlError `Usage` where an action has no bounds. */
export function requireBox({ id, action_low, action_high }: RecordedEnv, what: string): void {
  const open = [...action_low, ...action_high].findIndex((side) => !Number.isFinite(side))
  if (open < 0) return
  const entry = open % action_low.length
  throw new DrcorlError('Usage', `${id}: action ${entry} has no bounds, which ${what} between`, {
    hint: 'give the environment a box of actions',
  })
}

/** @throws DrcorlError `Shape` where policy and environment do not fit. */
export function requireFit(policy: Policy, name: string, env: Pick<VecEnv, 'id' | 'obs_dim' | 'act_dim'>): void {
  for (const [what, has, wants] of [
    ['observations', policy.obs_dim, env.obs_dim],
    ['actions', policy.act_dim, env.act_dim],
  ] as const) {
    if (has === wants) continue
    throw new DrcorlError('Shape', `policy ${name} has ${has} ${what}, environment ${env.id} has ${wants}`)
  }
}
