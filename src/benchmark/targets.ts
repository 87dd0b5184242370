import { basename, extname } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { type Environment, findEnvironment, installedTasks } from '../data/environments.js'
import { locateDataset } from '../data/locate.js'
import { requireTask } from '../data/tasks.js'
import { findEnv } from '../envs/registry.js'
import type { Target } from './plan.js'

/**
 * The targets of names: embedded environments with their scripted data, DSRL tasks with their datasets.
 *
 * @throws DrcorlError `Usage` for a name that is no task, `Io` where its dataset is not found, `Environment` where its
 *   simulator is not installed: before hours of training, not after them.
 */
export const taskTargets = (names: readonly string[]): Promise<Target[]> => Promise.all(names.map(taskTarget))

async function taskTarget(name: string): Promise<Target> {
  const embedded = findEnv(name)
  if (embedded !== undefined) {
    return { name, dataset: `env:${name}`, env: name, cost_limits: [embedded.default_cost_limit] }
  }
  const { task, cost_limits } = requireTask(name)
  await requirePlayable(findEnvironment(task))
  return { name: task, dataset: await locateDataset(task), env: task, cost_limits }
}

/**
 * A file of one's own. Without an environment its policies are judged offline.
 *
 * @param env name of the environment that judges, or undefined.
 */
export async function fileTarget(path: string, env: string | undefined): Promise<Target> {
  if (env !== undefined) await requirePlayable(findEnvironment(env))
  return { name: basename(path, extname(path)), dataset: path, env: env ?? null, cost_limits: [] }
}

async function requirePlayable({ name, task }: Environment): Promise<void> {
  if (task === null || (await installedTasks())(task)) return
  throw new DrcorlError('Environment', `the environment of ${name} is not installed`, {
    exitStatus: 2,
    hint: 'install it: npx drcorl envs install; or judge offline: --dataset FILE',
  })
}
