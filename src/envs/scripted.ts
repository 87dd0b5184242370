import { type Columns, emptyColumns } from './columns.js'
import { type Guidance, makeController } from './controllers.js'
import { type PointState, advance } from './point-mass.js'
import { Random } from './random.js'
import { EMBEDDED_ENVS, type EmbeddedEnv, findEnv } from './registry.js'

export type { Columns }

/** How much scripted data, and which. */
export interface DatasetOptions {
  /** Episodes to keep, default 500. */
  episodes?: number
  /** Seed of the whole dataset, default 0. */
  seed?: number
}

interface Candidate {
  index: number
  ret: number
  cost: number
}

/** Candidates simulated for each episode kept: enough that rare cells of (cost, return) are filled. */
const CANDIDATES_PER_EPISODE = 5
/** The grid over (cost, return) that the kept episodes cover evenly. */
const BINS = 12
/** Below 1 makes cells narrower at low cost. */
const CELL_POWER = 0.7
const ACT_DIM = 2
/** 10,000 episodes of 200 steps are 160 MB of columns. */
const MOST_EPISODES = 10_000

/** Writes transitions one after another into columns of known length. */
class Recorder {
  readonly columns: Columns
  private row = 0

  constructor(
    private readonly env: EmbeddedEnv,
    transitions: number,
    source: string,
  ) {
    const further = Object.keys(env.task.further ?? {})
    this.columns = emptyColumns({ obs_dim: env.task.obs_dim, act_dim: ACT_DIM }, transitions, source, further)
  }

  before(state: PointState, action: readonly [number, number]): void {
    this.env.task.observe(state, this.columns.observations, this.row * this.columns.obs_dim)
    this.columns.actions.set(action, this.row * ACT_DIM)
    for (const [name, signal] of Object.entries(this.env.task.further ?? {})) {
      this.columns.further![name]![this.row] = signal(...action)
    }
  }

  after(state: PointState, reward: number, cost: number, last: boolean): void {
    this.env.task.observe(state, this.columns.next_observations, this.row * this.columns.obs_dim)
    this.columns.rewards[this.row] = reward
    this.columns.costs[this.row] = cost
    this.columns.timeouts[this.row] = last ? 1 : 0
    this.row += 1
  }
}

/**
 * Plays candidate `index` of a dataset. One in three changes its controller on the way, so that good and bad, safe
 * and unsafe behavior meet in one episode and a learner can do better than the best episode.
 */
function play(env: EmbeddedEnv, seed: number, index: number, recorder?: Recorder): Candidate {
  const { task } = env
  const random = new Random(seed, index)
  const draw = (): Guidance =>
    makeController(
      env.guidance(random),
      { lag: random.between(0.1, 0.6), noise: random.between(0, 0.7) },
      task.motion,
      random,
    )
  const state = task.start(random)
  const change = random.chance(1 / 3) ? Math.floor(random.between(0.2, 0.8) * task.episode_length) : -1
  const played = { index, ret: 0, cost: 0 }
  let controller = draw()
  for (let step = 0; step < task.episode_length; step += 1) {
    if (step === change) controller = draw()
    const [ax, ay] = controller(state)
    const action = [Math.fround(ax), Math.fround(ay)] as const
    recorder?.before(state, action)
    advance(task, state, action[0], action[1])
    const reward = task.reward(state)
    const cost = task.cost(state)
    recorder?.after(state, reward, cost, step === task.episode_length - 1)
    played.ret += reward
    played.cost += cost
  }
  return played
}

/**
 * Keeps `count` candidates, taking one from every non-empty cell of (cost, return) in turn: a flat density. Cells are
 * narrower at low cost, so that about one episode in seven is safe at limit 10.
 */
function selectFlat(candidates: readonly Candidate[], count: number, costCap: number): Candidate[] {
  const best = Math.max(...candidates.map((c) => c.ret)) + 1e-6
  const cells = new Map<number, Candidate[]>()
  for (const c of candidates) {
    const column = Math.floor((c.cost / (costCap + 1)) ** CELL_POWER * BINS)
    const key = column * BINS + Math.floor((c.ret / best) * BINS)
    const cell = cells.get(key)
    if (cell) cell.push(c)
    else cells.set(key, [c])
  }
  const kept: Candidate[] = []
  for (let round = 0; kept.length < count; round += 1) {
    for (const cell of cells.values()) {
      const candidate = cell[round]
      if (candidate && kept.length < count) kept.push(candidate)
    }
  }
  return kept.toSorted((a, b) => a.index - b.index)
}

/** Of candidates 0, 1, 2, ... the first `count` with a return of at least 0 and a cost within the cap. */
function drawCandidates(env: EmbeddedEnv, seed: number, count: number): Candidate[] {
  const candidates: Candidate[] = []
  for (let index = 0; candidates.length < count; index += 1) {
    const candidate = play(env, seed, index)
    if (candidate.ret >= 0 && candidate.cost <= env.cost_cap) candidates.push(candidate)
  }
  return candidates
}

/**
 * Scripted data of mixed quality for an embedded environment: the same name, number and seed give the same bytes.
 * The evaluation episodes of a seed are drawn from other streams, so they never occur in the data.
 *
 * @throws RangeError for an unknown environment, or a number of episodes or a seed that is not a whole number in range.
 */
export function makeDataset(envName: string, options: DatasetOptions = {}): Columns {
  const { episodes = 500, seed = 0 } = options
  const env = findEnv(envName)
  if (!env) {
    const known = EMBEDDED_ENVS.map((e) => e.id).join(', ')
    throw new RangeError(`no embedded environment is called '${envName}'; there are: ${known}`)
  }
  if (!Number.isSafeInteger(episodes) || episodes < 1 || episodes > MOST_EPISODES) {
    throw new RangeError(`episodes must be a whole number from 1 to ${MOST_EPISODES}, got ${episodes}`)
  }
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`seed must be a whole number, 0 or more, got ${seed}`)
  }
  const candidates = drawCandidates(env, seed, episodes * CANDIDATES_PER_EPISODE)
  const kept = selectFlat(candidates, episodes, env.cost_cap)
  const source = `env:${envName}?episodes=${episodes}&seed=${seed}`
  const recorder = new Recorder(env, episodes * env.task.episode_length, source)
  for (const candidate of kept) play(env, seed, candidate.index, recorder)
  return recorder.columns
}
