/** What is to be recorded: options read, policies and environment found. */
import { DrcorlError } from '../base/errors.js'
import { exists } from '../base/files.js'
import { type OpenOptions, findEnvironment } from '../data/environments.js'
import { checkOutput, requireSeed } from '../data/operations.js'
import type { EnvFactory, VecEnv } from '../envs/env.js'
import { environmentOf } from '../evaluate/evaluate.js'
import { holdsRun, readRecord } from '../train/run-folder.js'
import { type Recipe, rowBytes } from './journal.js'
import { type Player, type PolicyShare, type RecordedEnv, findPlayers } from './players.js'

/** What to play, where, and how much of it. */
export interface RecordOptions extends OpenOptions {
  /** Who plays; each episode is played by one, drawn by weight. */
  policies: readonly PolicyShare[]
  /** Embedded environment, DSRL task, `module:Id`, or a factory; default that of the first run's data. */
  env?: string | EnvFactory | undefined
  /** Episodes to record; this or `steps`. */
  episodes?: number | undefined
  /** Transitions to record at least: the episode that reaches them is the last. */
  steps?: number | undefined
  /** Standard deviation of Gaussian noise on actions, in halves of the box; default 0. `random` gets none. */
  noise?: number | undefined
  /** Of all draws, and of the environment's episodes; default 0. */
  seed?: number | undefined
  /** What conditioned policies are asked for instead of what their files say. */
  settings?: Record<string, number> | undefined
  /** Episodes side by side, default at most 16; more or fewer change no transition. */
  rows?: number | undefined
  /** Go on with the recording that was cut short; everything else must be as it was. */
  resume?: boolean | undefined
  /** Replace a file that is there, and a recording that was cut short. */
  overwrite?: boolean | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((progress: RecordProgress) => void) | undefined
}

export interface RecordProgress {
  episodes: number
  /** Null where steps decide. */
  of: number | null
  /** Done of what was asked, 0 to 1. */
  share: number
  steps_per_second: number
  eta_seconds: number
}

/** More rows gain little, and an interrupted round is played again. */
const MOST_ROWS = 16
/** Characters; the attributes of an HDF5 file take 64 KiB in all. */
const MOST_DESCRIPTION = 40_000
/** Columns in JavaScript and in native memory. */
const COPIES = 2

export interface Plan {
  players: Player[]
  make: EnvFactory
  /** Null for a factory, whose environments say it. */
  env: string | null
  episodes: number | null
  steps: number | null
  rows: number
  noise: number
  seed: number
}

export async function readPlan(output: string, options: RecordOptions): Promise<Plan> {
  const { noise = 0, seed = 0, rows, resume } = options
  const amount = readAmount(options)
  requireSeed(seed)
  if (!(noise >= 0) || !Number.isFinite(noise)) {
    throw new DrcorlError('Usage', `noise ${noise} must be a number, 0 or more`)
  }
  await checkOutput('', output, options.overwrite)
  const players = await findPlayers(options.policies, options.settings)
  const asked = options.env ?? (await environmentOfRuns(options.policies))
  const found = typeof asked === 'function' ? { make: asked, name: null } : findEnvironment(asked, options)
  if (JSON.stringify(players).length > MOST_DESCRIPTION) {
    throw new DrcorlError('Usage', `${players.length} policies are more than a file can name; record several files`)
  }
  const part = await exists(partOf(output))
  if (resume && !part) {
    throw new DrcorlError('Usage', `there is nothing to resume: ${partOf(output)} is not there`, {
      hint: 'leave --resume out',
    })
  }
  if (part && !resume && !options.overwrite) {
    throw new DrcorlError('Usage', `${partOf(output)} holds a recording that was cut short`, {
      hint: 'go on with it: the same command with --resume; begin anew: --overwrite',
    })
  }
  const side = requireWhole('rows', rows ?? sideBySide(amount.episodes))
  return { players, make: found.make, env: found.name, ...amount, rows: side, noise, seed }
}

/** Rows of which no round has many more than there are episodes for. */
function sideBySide(episodes: number | null): number {
  return episodes === null ? MOST_ROWS : Math.ceil(episodes / Math.ceil(episodes / MOST_ROWS))
}

function readAmount({ episodes, steps }: RecordOptions): Pick<Plan, 'episodes' | 'steps'> {
  if ((episodes === undefined) === (steps === undefined)) {
    throw new DrcorlError('Usage', 'give --episodes or --steps, one of the two')
  }
  return {
    episodes: episodes === undefined ? null : requireWhole('episodes', episodes),
    steps: steps === undefined ? null : requireWhole('steps', steps),
  }
}

/** Where the data of the first run among the policies came from. */
async function environmentOfRuns(policies: readonly PolicyShare[]): Promise<string> {
  for (const { policy } of policies) {
    if (typeof policy !== 'string' || !(await holdsRun(policy))) continue
    const own = environmentOf(await readRecord(policy))
    if (own !== undefined) return own
  }
  throw new DrcorlError('Usage', 'no environment is named, and no policy is a run that knows its own', {
    hint: 'name one with --task or --env (see: npx drcorl envs list)',
  })
}

export const partOf = (output: string): string => `${output}.part`

/** All that the transitions depend on, and how they are played. */
export function recipeOf({ players, episodes, steps, noise, seed, rows }: Plan, env: VecEnv): Recipe {
  const policies = players.map(({ policy, weight, sha256, settings }) => ({ policy, weight, sha256, settings }))
  const { further_costs = [] } = env
  const further = further_costs.length === 0 ? {} : { further_costs }
  return { env: env.id, policies, episodes, steps, noise, seed, rows, ...further }
}

/** The file is made from columns that lie in memory whole. */
export function requireMemory({ episodes, steps, rows }: Plan, env: VecEnv): void {
  const transitions = episodes === null ? steps! : episodes * env.episode_length
  // A round is there besides, each of its transitions as arrays of their own.
  const bytes = COPIES * rowBytes(env) * (transitions + rows * env.episode_length)
  const free = process.availableMemory()
  if (bytes <= 0.8 * free) return
  const [needs, has] = [bytes, free].map((amount) => `${(amount / 2 ** 30).toFixed(1)} GiB`)
  const what = `${transitions} transitions of ${env.id} take up to ${needs} of memory, and ${has} are free`
  throw new DrcorlError('Usage', what, { hint: 'record fewer, or several files by several seeds' })
}

export function boxed(env: VecEnv): RecordedEnv {
  const { id, obs_dim, act_dim, episode_length } = env
  const side = (value: number): number[] => Array.from({ length: act_dim }, () => value)
  const { action_low = side(-1), action_high = side(1) } = env
  return { id, obs_dim, act_dim, episode_length, action_low, action_high }
}

function requireWhole(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new DrcorlError('Usage', `${name} ${value} must be a whole number, 1 or more`)
}
