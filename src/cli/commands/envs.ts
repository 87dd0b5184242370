import {
  type Environment,
  type OpenOptions,
  findEnvironment,
  installedTasks,
  suiteOf,
} from '../../data/environments.js'
import { TASKS, type Task } from '../../data/tasks.js'
import { envsFolder } from '../../envs/installed.js'
import { installEnvironments } from '../../envs/install.js'
import type { VecEnv } from '../../envs/env.js'
import { PythonEnv } from '../../envs/python.js'
import { SUITES, SUITE_NAMES, type SuiteName } from '../../envs/recipe.js'
import { EMBEDDED_ENVS, type ScoreRange } from '../../envs/registry.js'
import { DrcorlError } from '../../base/errors.js'
import { LiveLine } from '../../base/live-line.js'
import { type Arguments, type Command, type Context, type Output, optionalNumber, optionalString } from '../command.js'
import { PYTHON_OPTIONS, openOptions } from '../python-options.js'
import { facts, table } from '../table.js'

const ACTIONS: Record<string, (args: Arguments, context: Context) => Promise<Output>> = { install, list, check }
const CHECK_STEPS = 300

export const envsCommand: Command = {
  command: 'envs <action> [task]',
  describe: 'Install, list and check real environments: drcorl envs install',
  interruptible: true,
  builder: (yargs) =>
    yargs
      .usage('$0 envs install [--suite NAME] | $0 envs list | $0 envs check TASK')
      .positional('action', { choices: Object.keys(ACTIONS), describe: 'What to do' })
      .positional('task', { type: 'string', describe: 'check: a task of `envs list`, or module:Id' })
      .option('suite', { choices: SUITE_NAMES, requiresArg: true, describe: 'install: only this suite (default all)' })
      .option('num-envs', { requiresArg: true, describe: 'check: rows side by side (default 1)' })
      .options(PYTHON_OPTIONS),

  run(args, context) {
    const action = String(args['action'])
    if (action !== 'check' && args['task'] !== undefined) {
      throw new DrcorlError('Usage', `envs ${action} takes no task, got "${String(args['task'])}"`)
    }
    if (action !== 'install' && args['suite'] !== undefined) {
      throw new DrcorlError('Usage', `--suite belongs to envs install, not to envs ${action}`)
    }
    return ACTIONS[action]!(args, context)
  },
}

async function install(args: Arguments, { stderr, signal }: Context): Promise<Output> {
  const line = new LiveLine(stderr)
  const asked = optionalString(args, 'suite') as SuiteName | undefined
  try {
    const result = await installEnvironments({
      suites: asked === undefined ? undefined : [asked],
      dir: optionalString(args, 'dir'),
      python: optionalString(args, 'python'),
      signal,
      onProgress: ({ text, detail }) => (detail ? line.update(text) : line.note(text)),
    })
    const { folder, python, python_version, suites, seconds } = result
    const rows = suites.map(({ suite, action }): [string, string] => [suite, `${SUITES[suite].label}, ${action}`])
    const text = facts([...rows, ['Python', `${python_version}, ${python}`], ['time', `${seconds.toFixed(1)} s`]])
    return { json: { ...result, folder }, text }
  } finally {
    line.close()
  }
}

async function list(args: Arguments): Promise<Output> {
  const dir = optionalString(args, 'dir')
  const isInstalled = await installedTasks(dir)
  const embedded = EMBEDDED_ENVS.map((env) => {
    const sizes = { obs_dim: env.task.obs_dim, act_dim: env.make(1).act_dim, episode_length: env.task.episode_length }
    return listed({ task: env.id, suite: 'embedded', ...sizes, ...env.score_range }, true)
  })
  const real = TASKS.map((task) => listed(task, isInstalled(task)))
  const tasks = [...embedded, ...real]
  const playable = new Set(TASKS.filter((task) => suiteOf(task) !== undefined).map(({ task }) => task))
  const rows = tasks.map((row) => [
    row.task,
    row.suite,
    row.obs_dim,
    row.act_dim,
    row.episode_length,
    `${round(row.min_return)} to ${round(row.max_return)}`,
    `${round(row.min_cost)} to ${round(row.max_cost)}`,
    row.installed ? 'yes' : playable.has(row.task) ? 'no' : 'not available',
  ])
  const header = ['task', 'suite', 'obs', 'act', 'steps', 'return', 'cost', 'installed']
  const folder = envsFolder(dir)
  const notes = [
    'return, cost: the range over the dataset, which normalises scores; steps: length of an episode',
    `real environments are installed in ${folder} (npx drcorl envs install)`,
  ]
  return { json: { folder, tasks }, text: `${table(header, rows)}\n\n${notes.join('\n')}` }
}

type Listed = Pick<Task, 'task' | 'suite' | 'obs_dim' | 'act_dim' | 'episode_length'> & ScoreRange

function listed(task: Listed, installed: boolean): Listed & { installed: boolean } {
  const { task: name, suite, obs_dim, act_dim, episode_length, min_return, max_return, min_cost, max_cost } = task
  return { task: name, suite, obs_dim, act_dim, episode_length, min_return, max_return, min_cost, max_cost, installed }
}

const round = (value: number): number => Number(value.toPrecision(4))

async function check(args: Arguments, { signal }: Context): Promise<Output> {
  const name = optionalString(args, 'task')
  if (name === undefined) {
    throw new DrcorlError('Usage', 'envs check needs a task', {
      hint: 'for instance: npx drcorl envs check BallCircle',
    })
  }
  const num_envs = optionalNumber(args, 'num-envs') ?? 1
  if (!Number.isSafeInteger(num_envs) || num_envs < 1) {
    throw new DrcorlError('Usage', `--num-envs ${num_envs} must be a whole number, 1 or more`)
  }
  const open: OpenOptions = openOptions(args)
  const environment = findEnvironment(name, open)
  const started = performance.now()
  const env = await environment.make(num_envs, signal)
  try {
    const opened = (performance.now() - started) / 1000
    return describe(environment, env, { open_seconds: opened, ...(await walk(env)) })
  } finally {
    await env.close?.()
  }
}

interface Walk {
  steps_per_second: number
  observation_min: number
  observation_max: number
  reward_min: number
  reward_max: number
  cost_max: number
}

/** Steps an environment with slow swings of the actions and notes what comes out. */
async function walk(env: VecEnv): Promise<Walk> {
  const rows = Array.from({ length: env.num_envs }, (_, row) => row)
  const { action_low, action_high } = env instanceof PythonEnv ? env : { action_low: [], action_high: [] }
  await env.reset(rows)
  const seen = { observations: new Range(), rewards: new Range(), costs: new Range() }
  const steps = Math.min(CHECK_STEPS, env.episode_length)
  const actions = new Float32Array(env.num_envs * env.act_dim)
  let stepped = 0
  const start = performance.now()
  for (let step = 0; step < steps; step += 1) {
    for (const index of actions.keys()) {
      const swing = 0.5 + 0.5 * Math.sin(step / 10 + index)
      const low = bounded(action_low[index % env.act_dim], -1)
      actions[index] = low + swing * (bounded(action_high[index % env.act_dim], 1) - low)
    }
    const result = await env.step(actions)
    stepped += result.stepped ?? env.num_envs
    seen.observations.add(result.observations)
    seen.rewards.add(result.rewards)
    seen.costs.add(result.costs)
    if (result.terminated.every((end, row) => end === 1 || result.truncated[row] === 1)) break
  }
  const seconds = (performance.now() - start) / 1000
  return {
    steps_per_second: stepped / seconds,
    observation_min: seen.observations.min,
    observation_max: seen.observations.max,
    reward_min: seen.rewards.min,
    reward_max: seen.rewards.max,
    cost_max: seen.costs.max,
  }
}

/** A box may be open at a side. */
const bounded = (limit: number | undefined, otherwise: number): number =>
  limit !== undefined && Number.isFinite(limit) ? limit : otherwise

class Range {
  min = Number.POSITIVE_INFINITY
  max = Number.NEGATIVE_INFINITY

  add(values: Float32Array): void {
    for (const value of values) {
      if (value < this.min) this.min = value
      if (value > this.max) this.max = value
    }
  }
}

function describe(environment: Environment, env: VecEnv, found: Walk & { open_seconds: number }): Output {
  const { obs_dim, act_dim, episode_length, num_envs } = env
  const actions =
    env instanceof PythonEnv ? `[${env.action_low.join(', ')}] to [${env.action_high.join(', ')}]` : '-1 to 1'
  const text = facts([
    ['environment', environment.name + (environment.task === null ? '' : ` (${environment.task.simulator_id})`)],
    ['observations', `${obs_dim}, seen from ${round(found.observation_min)} to ${round(found.observation_max)}`],
    ['actions', `${act_dim}, ${actions}`],
    ['episode', `${episode_length} steps`],
    ['reward', `seen from ${round(found.reward_min)} to ${round(found.reward_max)} a step`],
    ['cost', `seen up to ${round(found.cost_max)} a step`],
    [
      'speed',
      `${found.steps_per_second.toFixed(0)} steps/s with ${num_envs} side by side; opened in ${found.open_seconds.toFixed(1)} s`,
    ],
  ])
  return { json: { env: environment.name, obs_dim, act_dim, episode_length, num_envs, ...found }, text }
}
