import { basename, extname } from 'node:path'
import { TASKS } from '../data/tasks.js'
import { EMBEDDED_ENVS, findEnv } from '../envs/registry.js'
import { DrcorlError } from '../errors.js'
import type { Target } from './plan.js'

/**
 * The targets of names: embedded environments with their scripted data.
 *
 * @throws DrcorlError `Usage` for a name that is no task.
 */
export function taskTargets(names: readonly string[]): Target[] {
  return names.map((name) => {
    const embedded = findEnv(name)
    if (embedded !== undefined) {
      return { name, dataset: `env:${name}`, env: name, cost_limits: [embedded.default_cost_limit] }
    }
    const known = [...EMBEDDED_ENVS.map(({ id }) => id), ...TASKS.map(({ task }) => task)]
    throw new DrcorlError('Usage', `--tasks: "${name}" is unknown; known: ${known.join(', ')}`)
  })
}

/** A file without an environment: policies are judged offline. The limits have to be given. */
export function fileTarget(path: string): Target {
  return { name: basename(path, extname(path)), dataset: path, env: null, cost_limits: [] }
}
