/**
 * Environments in Python: a VecEnv whose rows live in worker processes.
 *
 * Row i of the VecEnv is a row of one worker; which one never changes an episode, because every row has random numbers
 * of its own (bridge/drcorl_bridge/streams.py). The first thing that goes wrong ends all workers and is the one error.
 */
import { availableParallelism } from 'node:os'
import { DrcorlError } from '../base/errors.js'
import { OWN_COST } from '../config/limits.js'
import type { StepResult, VecEnv } from './env.js'
import { countSteps } from './ledger.js'
import { REQUEST, PROTOCOL, Worker, WorkerFailure } from './worker.js'

/** How an environment in Python is opened. */
export interface PythonEnvOptions {
  /** N, rows stepped side by side. */
  num_envs: number
  /** Processes the rows are spread over, default one for each core, never more than rows. */
  workers?: number | undefined
  /** Seconds without a sign of life after which the environment is given up, default 60. */
  timeout?: number | undefined
  /** Aborting ends the workers, also in the middle of a call. */
  signal?: AbortSignal | undefined
}

/** Which environment, in which Python. */
export interface PythonEnvSource {
  /** Name in messages and results. */
  name: string
  /** How it is imported: see bridge/drcorl_bridge/suites.py. */
  suite: 'bullet_safety_gym' | 'safety_gymnasium' | 'user'
  /** Id in Gymnasium's registry, or `module:Id`. */
  id: string
  /** Interpreter. */
  python: string
  /** Key of the cost in `info`, default `cost`. */
  costKey?: string | undefined
  /** Cost of a step whose `info` has no such key; without it, such a step is an error. */
  missingCost?: number | undefined
  /** Names of the costs that are wanted, keys of `info`; `costs` is the one under `costKey`. Default that alone. */
  costs?: readonly string[] | undefined
  /** What the environment must say of itself; a difference is an error. */
  expected?: { obs_dim: number; act_dim: number; episode_length: number } | undefined
}

/** Reply to OPEN: sizes and box of the actions; an open side is an infinity here and null in the frame. */
interface Specification {
  obs_dim: number
  act_dim: number
  action_low: number[]
  action_high: number[]
  max_episode_steps: number
}

/** More of either than any environment has: an array of so many rows would not fit into memory. */
const MOST_ENTRIES = 2 ** 24

interface Group {
  worker: Worker
  /** First row of this worker, and how many it has. */
  first: number
  count: number
}

const DEFAULT_TIMEOUT_SECONDS = 60
const FLAG = { terminated: 1, truncated: 2, stepped: 4 }
const TRACE_LINES = 12

/** An open environment in Python; `openPythonEnv` makes one. */
export class PythonEnv implements VecEnv {
  readonly obs_dim: number
  readonly act_dim: number
  readonly episode_length: number
  readonly further_costs: readonly string[]
  /** The box actions are clipped to, [A] each. */
  readonly action_low: readonly number[]
  readonly action_high: readonly number[]
  private readonly result: StepResult
  private seeds: readonly number[] = []
  private steps = 0
  private closing: Promise<unknown> | undefined
  private failed: DrcorlError | undefined

  constructor(
    private readonly source: PythonEnvSource,
    readonly num_envs: number,
    private readonly groups: readonly Group[],
    specification: Specification,
  ) {
    this.obs_dim = specification.obs_dim
    this.act_dim = specification.act_dim
    this.action_low = specification.action_low
    this.action_high = specification.action_high
    this.episode_length = specification.max_episode_steps
    this.further_costs = keysOf(source).further
    const further = this.further_costs.map((name): [string, Float32Array] => [name, new Float32Array(num_envs)])
    this.result = {
      observations: new Float32Array(num_envs * this.obs_dim),
      rewards: new Float32Array(num_envs),
      costs: new Float32Array(num_envs),
      ...(further.length === 0 ? {} : { further: Object.fromEntries(further) }),
      terminated: new Uint8Array(num_envs),
      truncated: new Uint8Array(num_envs),
      stepped: 0,
    }
  }

  get id(): string {
    return this.source.name
  }

  async reset(seeds: readonly number[]): Promise<Float32Array> {
    if (seeds.length !== this.num_envs) {
      throw new RangeError(`${this.id}: ${this.num_envs} seeds expected, one for each environment, got ${seeds.length}`)
    }
    this.seeds = [...seeds]
    this.steps = 0
    await this.all(REQUEST.reset, Float64Array.from(seeds), (group, body) => {
      requireLength(body, group.count * this.obs_dim * 4)
      new Uint8Array(this.result.observations.buffer).set(body, group.first * this.obs_dim * 4)
    })
    return this.result.observations
  }

  async step(actions: Float32Array): Promise<StepResult> {
    if (actions.length !== this.num_envs * this.act_dim) {
      const wants = `${this.num_envs * this.act_dim} expected (${this.num_envs} x ${this.act_dim})`
      throw new RangeError(`${this.id}: actions of length ${wants}, got ${actions.length}`)
    }
    this.steps += 1
    const { result } = this
    result.stepped = 0
    await this.all(REQUEST.step, actions, (group, body) => this.take(group, body))
    countSteps(result.stepped)
    return result
  }

  /** Ends all workers. A call that is pending fails. */
  async close(): Promise<void> {
    this.closing ??= Promise.all(this.groups.map(({ worker }) => worker.close()))
    await this.closing
  }

  /** Ends all workers at once; the call that is pending, and every later one, fails with this error. */
  abort(error: DrcorlError): void {
    this.failed ??= error
    for (const { worker } of this.groups) worker.stop(new WorkerFailure('crash', error.message))
  }

  /** Sends every group its part of a request and takes the replies in. */
  private async all(
    kind: number,
    values: Float32Array | Float64Array,
    take: (group: Group, body: Buffer) => void,
  ): Promise<void> {
    if (this.failed !== undefined) throw this.failed
    if (this.closing !== undefined) throw new DrcorlError('Usage', `${this.id}: the environment is closed`)
    const width = values.length / this.num_envs
    const calls = this.groups.map(async (group) => {
      const part = values.subarray(group.first * width, (group.first + group.count) * width)
      const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength)
      try {
        take(group, await group.worker.call(kind, bytes))
      } catch (error) {
        throw this.failed ?? this.describe(error, group)
      }
    })
    try {
      await Promise.all(calls)
    } catch (error) {
      this.failed ??= error as DrcorlError
      await Promise.all(this.groups.map(({ worker }) => worker.kill()))
      await Promise.allSettled(calls)
      throw this.failed
    }
  }

  /** Unpacks a reply to STEP: see bridge/drcorl_bridge/frames.py. */
  private take({ first, count }: Group, body: Buffer): void {
    const { result, obs_dim } = this
    const observations = count * obs_dim * 4
    const costs = observations + count * 4
    const floats = costs + count * 4 * (1 + this.further_costs.length)
    requireLength(body, floats + count)
    new Uint8Array(result.observations.buffer).set(body.subarray(0, observations), first * obs_dim * 4)
    new Uint8Array(result.rewards.buffer).set(body.subarray(observations, observations + count * 4), first * 4)
    const columns = [result.costs, ...this.further_costs.map((name) => result.further![name]!)]
    for (const [index, column] of columns.entries()) {
      const from = costs + index * count * 4
      new Uint8Array(column.buffer).set(body.subarray(from, from + count * 4), first * 4)
    }
    for (let row = 0; row < count; row += 1) {
      const flags = body[floats + row]!
      result.terminated[first + row] = flags & FLAG.terminated ? 1 : 0
      result.truncated[first + row] = flags & FLAG.truncated ? 1 : 0
      if (flags & FLAG.stepped) result.stepped! += 1
    }
  }

  private describe(error: unknown, group: Group): DrcorlError {
    if (!(error instanceof WorkerFailure)) throw error
    const { row, step = this.steps } = error.details
    const at = this.steps === 0 ? 'at its reset' : `in step ${step}`
    const episode = row === undefined ? this.episodes(group) : `episode with seed ${this.seeds[group.first + row]}`
    return environmentError(error, `${this.source.name}, ${episode}, ${at}`)
  }

  private episodes({ first, count }: Group): string {
    return `one of the episodes with seeds ${this.seeds.slice(first, first + count).join(', ')}`
  }
}

/** Key of the first cost in `info`, and the names of the further ones, which are their keys. */
function keysOf({ costs, costKey = 'cost' }: PythonEnvSource): { key: string; further: readonly string[] } {
  if (costs === undefined || costs.length === 0) return { key: costKey, further: [] }
  const further = costs.filter((name) => name !== OWN_COST)
  // What is not asked for need not be there.
  return costs.length > further.length ? { key: costKey, further } : { key: further[0]!, further }
}

/**
 * Opens N environments in worker processes.
 *
 * @throws DrcorlError `Environment` where it cannot be opened or is not what was expected, `Usage` for bad options,
 *   `Cancelled`.
 */
export async function openPythonEnv(source: PythonEnvSource, options: PythonEnvOptions): Promise<PythonEnv> {
  const { num_envs, timeout = DEFAULT_TIMEOUT_SECONDS, signal } = options
  const workers = Math.min(requireCount('workers', options.workers ?? availableParallelism()), num_envs)
  requireCount('num_envs', num_envs)
  if (!(timeout > 0)) throw new DrcorlError('Usage', `timeout ${timeout} must be a number of seconds above 0`)
  if (source.missingCost !== undefined && !(source.missingCost >= 0 && source.missingCost < Number.POSITIVE_INFINITY)) {
    throw new DrcorlError('Usage', `--missing-cost ${source.missingCost} must be a number, 0 or more`)
  }
  if (signal?.aborted) throw cancelled(source.name)
  const shares = Array.from({ length: workers }, (_, worker) => {
    const first = Math.floor((worker * num_envs) / workers)
    return { first, count: Math.floor(((worker + 1) * num_envs) / workers) - first }
  })
  const opening = shares.map((share) => openGroup(source, share, timeout, signal))
  try {
    const opened = await Promise.all(opening)
    const specification = opened[0]!.specification
    requireExpected(source, specification)
    const env = new PythonEnv(source, num_envs, opened, specification)
    signal?.addEventListener('abort', () => env.abort(cancelled(source.name)), { once: true })
    return env
  } catch (error) {
    const settled = await Promise.allSettled(opening)
    await Promise.all(settled.map((result) => (result.status === 'fulfilled' ? result.value.worker.kill() : undefined)))
    throw error
  }
}

async function openGroup(
  source: PythonEnvSource,
  { first, count }: { first: number; count: number },
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<Group & { specification: Specification }> {
  const { python, suite, id, missingCost = null } = source
  const { key, further } = keysOf(source)
  let worker: Worker | undefined
  const abort = (): void => worker?.stop(new WorkerFailure('crash', 'cancelled'))
  signal?.addEventListener('abort', abort, { once: true })
  try {
    worker = await Worker.start({ python, isolated: suite !== 'user', timeout })
    const request = { protocol: PROTOCOL, suite, id, rows: count, cost_key: key, further, missing_cost: missingCost }
    const specification = readSpecification(await worker.callJson<Specification>(REQUEST.open, request))
    return { worker, first, count, specification }
  } catch (error) {
    await worker?.kill()
    if (signal?.aborted) throw cancelled(source.name)
    if (!(error instanceof WorkerFailure)) throw error
    if (error.kind === 'start') {
      throw new DrcorlError('Environment', `cannot start Python "${python}": ${error.message}`, { exitStatus: 2 })
    }
    if (error.kind === 'package') {
      const what = `Python "${python}" lacks a package that environments need, gymnasium and numpy: ${error.message}`
      const hint = `install them: ${python} -m pip install gymnasium numpy; or leave --python out: npx drcorl envs install`
      throw new DrcorlError('Environment', what, { exitStatus: 2, cause: error, hint })
    }
    throw environmentError(error, `${source.name} (${id}) cannot be opened`)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

/** The one error, with the end of the Python stack, or of what the process printed, as hint. */
function environmentError(failure: WorkerFailure, where: string): DrcorlError {
  const { kind, message } = failure
  const what: Partial<Record<WorkerFailure['kind'], string>> = {
    exception: 'the environment raised ',
    shape: 'the environment gave ',
    value: 'the environment gave ',
    protocol: 'its process broke the protocol: ',
  }
  const lead = what[kind] ?? ''
  const trace = failure.details.trace?.slice(-TRACE_LINES) ?? []
  return new DrcorlError('Environment', `${where}: ${lead}${message}`, {
    cause: failure,
    ...(trace.length === 0 ? {} : { hint: trace.join('\n  ') }),
  })
}

function readSpecification(found: { [K in keyof Specification]: unknown }): Specification {
  const size = (name: 'obs_dim' | 'act_dim' | 'max_episode_steps', most: number): number => {
    const value = found[name]
    if (Number.isSafeInteger(value) && (value as number) >= 1 && (value as number) <= most) return value as number
    throw new WorkerFailure('protocol', `a specification with ${name} ${JSON.stringify(value)}`)
  }
  const act_dim = size('act_dim', MOST_ENTRIES)
  const side = (name: 'action_low' | 'action_high', open: number): number[] => {
    const values = found[name]
    const isSide = Array.isArray(values) && values.length === act_dim
    if (isSide && values.every((value) => value === null || typeof value === 'number')) {
      return values.map((value: number | null) => value ?? open)
    }
    throw new WorkerFailure('protocol', `a specification with ${name} ${JSON.stringify(values)}`)
  }
  return {
    obs_dim: size('obs_dim', MOST_ENTRIES),
    act_dim,
    action_low: side('action_low', Number.NEGATIVE_INFINITY),
    action_high: side('action_high', Number.POSITIVE_INFINITY),
    max_episode_steps: size('max_episode_steps', Number.MAX_SAFE_INTEGER),
  }
}

function requireLength(body: Buffer, bytes: number): void {
  if (body.length === bytes) return
  throw new WorkerFailure('protocol', `a reply of ${body.length} bytes where ${bytes} were due`)
}

function requireExpected({ name, id, expected }: PythonEnvSource, found: Specification): void {
  if (expected === undefined) return
  for (const [what, wants, has] of [
    ['observations', expected.obs_dim, found.obs_dim],
    ['actions', expected.act_dim, found.act_dim],
    ['steps an episode', expected.episode_length, found.max_episode_steps],
  ] as const) {
    if (wants === has) continue
    throw new DrcorlError(
      'Environment',
      `${name} (${id}) has ${has} ${what}, DSRL's task has ${wants}: another version`,
      {
        exitStatus: 2,
      },
    )
  }
}

function requireCount(name: string, value: number): number {
  if (Number.isSafeInteger(value) && value >= 1) return value
  throw new DrcorlError('Usage', `${name} ${value} must be a whole number, 1 or more`)
}

const cancelled = (name: string): DrcorlError => new DrcorlError('Cancelled', `${name}: cancelled`)
