/** Which environment a name speaks of: an embedded one, a DSRL task, or one of the user's own. */
import { DrcorlError } from '../base/errors.js'
import { costsOf } from '../config/limits.js'
import type { CostEnv, EnvFactory } from '../envs/env.js'
import { envsFolder, hasSuite, readInstallation, requireSuite, venvPython } from '../envs/installed.js'
import { type PythonEnv, type PythonEnvOptions, type PythonEnvSource, openPythonEnv } from '../envs/python.js'
import type { SuiteName } from '../envs/recipe.js'
import { EMBEDDED_ENVS, type ScoreRange, findEnv } from '../envs/registry.js'
import type { KnownTask } from './dataset.js'
import { TASKS, type Task } from './tasks.js'

/** How environments in Python are opened, whichever they are. */
export interface OpenOptions extends Omit<PythonEnvOptions, 'num_envs' | 'signal'> {
  /** Folder of `drcorl envs install`: see `envsFolder`. */
  dir?: string | undefined
  /** Interpreter to use instead of the installed one. */
  python?: string | undefined
  /** Key of the cost in `info`, default `cost`. */
  costKey?: string | undefined
  /** Cost of a step whose `info` has no such key; without it, such a step is an error. */
  missingCost?: number | undefined
  /** Names of the costs that are wanted, as in `limits`; embedded environments give all they have. */
  costs?: readonly string[] | undefined
}

export interface Environment {
  /** As in results: `point-circle`, `BallCircle`, `module:Id`. */
  name: string
  make: EnvFactory
  /** Normalises scores; null where none is known. */
  score_range: ScoreRange | null
  /** The DSRL task, null for others. */
  task: Task | null
}

/** The suite whose environment a task plays, by the task's own suite; MetaDrive's cannot be installed. */
const SUITE_OF: Record<string, SuiteName> = {
  bullet_safety_gym: 'bullet_safety_gym',
  safety_gymnasium_navigation: 'safety_gymnasium',
  safety_gymnasium_velocity: 'safety_gymnasium',
}

/** The suite to install for a task; undefined where this version has none. */
export const suiteOf = (task: Task): SuiteName | undefined => SUITE_OF[task.suite]

/** The DSRL task of that name, or undefined. */
export const findTask = (name: string): Task | undefined => TASKS.find(({ task }) => task === name)

/**
 * Opens N real environments of a DSRL task.
 *
 * @throws DrcorlError `Usage` for an unknown task, `Environment` where it is not installed or does not open.
 */
export async function openTask(task: string, options: OpenOptions & PythonEnvOptions): Promise<PythonEnv> {
  const found = findTask(task)
  if (found === undefined) throw unknown(task)
  return openPythonEnv(await taskSource(found, options), options)
}

/**
 * Finds an environment by name, without opening it.
 *
 * @param name embedded environment, DSRL task, or `module:Id` of any Gymnasium environment.
 * @throws DrcorlError `Usage` with what is known.
 */
export function findEnvironment(name: string, options: OpenOptions = {}): Environment {
  const embedded = findEnv(name)
  if (embedded !== undefined) return { name, make: embedded.make, score_range: embedded.score_range, task: null }
  const task = findTask(name)
  if (task !== undefined) {
    const make: EnvFactory = (num_envs, signal) => openTask(name, { ...options, num_envs, signal })
    return { name, make, score_range: task, task }
  }
  if (!name.includes(':')) throw unknown(name)
  const make: EnvFactory = async (num_envs, signal) =>
    openPythonEnv(await userSource(name, options), { ...options, num_envs, signal })
  return { name, make, score_range: null, task: null }
}

/**
 * The environment data of that task came from, where this version can play it. A task stands in files, which may come
 * from anywhere, so the name of code in Python is none: that has to be asked for.
 */
export function playable(task: Pick<KnownTask, 'task' | 'env'> | null): string | undefined {
  if (task === null) return undefined
  if (task.env !== null) return findEnv(task.env)?.id
  const dsrl = findTask(task.task)
  return dsrl === undefined || suiteOf(dsrl) === undefined ? undefined : dsrl.task
}

/**
 * The environment of visits that a record names.
 *
 * @throws DrcorlError `Usage` where that is neither embedded nor a DSRL task:
 *   to open it would run whatever code it names.
 */
export function recordedEnvironment(name: string | null | undefined): string | undefined {
  if (typeof name !== 'string' || findEnv(name) !== undefined || findTask(name) !== undefined) return name ?? undefined
  throw new DrcorlError(
    'Usage',
    `the record of the run names the environment ${JSON.stringify(name)}, code of its own`,
    {
      hint: `if you trust it, ask for it: --environment ${name}`,
    },
  )
}

/**
 * What the policy meets during training in a hybrid mode; null in mode offline.
 *
 * @param asked a name, a factory, or undefined for the environment the data came from.
 * @throws DrcorlError `Usage` where a hybrid mode has no environment, or an offline run was given one.
 */
export function environmentOfVisits(
  asked: string | EnvFactory | EnvFactory<CostEnv> | undefined,
  run: Record<string, unknown>,
  task: KnownTask | null,
): { name: string | null; make: EnvFactory } | null {
  const mode = String(run['mode'] ?? 'offline')
  if (mode === 'offline') {
    if (asked === undefined) return null
    throw new DrcorlError('Usage', 'an environment is given, but mode offline never opens one', {
      hint: 'leave it out, or choose --mode hybrid-eval or --mode hybrid-data',
    })
  }
  // Whether rewards are missed shows in the first step.
  if (typeof asked === 'function') return { name: null, make: asked as EnvFactory }
  const name = asked ?? playable(task)
  if (name !== undefined) return { name, make: findEnvironment(name, { costs: costsOf(run) }).make }
  throw new DrcorlError('Usage', `mode ${mode} needs an environment, and none is known for these data`, {
    hint: 'name one with --environment (see: npx drcorl envs list)',
  })
}

/**
 * What a monitor plays in.
 *
 * @param costs names of the costs that are bounded, where they have any.
 * @param asked a name, a factory, or undefined for the environment the data came from.
 * @throws DrcorlError `Usage` where none is known.
 */
export function environmentOfMonitor(
  asked: string | EnvFactory | EnvFactory<CostEnv> | undefined,
  task: KnownTask | null,
  costs?: readonly string[],
): { name: string | null; make: EnvFactory } {
  if (typeof asked === 'function') return { name: null, make: asked as EnvFactory }
  const name = asked ?? playable(task)
  if (name !== undefined) return { name, make: findEnvironment(name, { costs }).make }
  throw new DrcorlError('Usage', 'a monitor needs an environment, and none is known for these data', {
    hint: 'name one with --environment (see: npx drcorl envs list), or leave out --eval-every',
  })
}

async function taskSource(
  task: Task,
  { dir, python, costKey, missingCost, costs }: OpenOptions,
): Promise<PythonEnvSource> {
  const suite = suiteOf(task)
  if (suite === undefined) {
    throw new DrcorlError('Environment', `${task.task}: ${task.suite} cannot be installed by this version of drcorl`, {
      exitStatus: 2,
      hint: 'its data can be trained on; to play it, wrap it yourself and name it with --env module:Id',
    })
  }
  const interpreter = python ?? (await requireSuite(suite, envsFolder(dir), task.task))
  return {
    name: task.task,
    suite,
    id: task.simulator_id,
    python: interpreter,
    costKey,
    missingCost,
    costs,
    expected: task,
  }
}

/** The user's own runs in the Python named, in the installed environment, or in the one of the shell. */
async function userSource(
  name: string,
  { dir, python, costKey, missingCost, costs }: OpenOptions,
): Promise<PythonEnvSource> {
  const folder = envsFolder(dir)
  const installed = (await readInstallation(folder)) !== undefined ? venvPython(folder) : 'python3'
  return { name, suite: 'user', id: name, python: python ?? installed, costKey, missingCost, costs }
}

function unknown(name: string): DrcorlError {
  const embedded = EMBEDDED_ENVS.map(({ id }) => id).join(', ')
  return new DrcorlError(
    'Usage',
    `unknown environment "${name}"; there are ${embedded}, the DSRL tasks, and module:Id`,
    {
      hint: 'see: npx drcorl envs list',
    },
  )
}

/** True for the tasks that can be played now. */
export async function installedTasks(dir?: string): Promise<(task: Task) => boolean> {
  const installation = await readInstallation(envsFolder(dir))
  return (task) => {
    const suite = suiteOf(task)
    return suite !== undefined && hasSuite(installation, suite)
  }
}
