import type { Options } from 'yargs'
import type { OpenOptions } from '../data/environments.js'
import { type Arguments, optionalNumber, optionalString } from './command.js'

/** Options of every command that opens environments in Python. */
export const PYTHON_OPTIONS = {
  workers: { requiresArg: true, describe: 'Python processes side by side (default one for each core)' },
  timeout: { requiresArg: true, describe: 'Seconds without a sign of life after which it is given up (default 60)' },
  'cost-key': { requiresArg: true, describe: 'Key of the cost in info (default cost)' },
  'missing-cost': { requiresArg: true, describe: 'Cost of a step whose info has no such key (default: an error)' },
  python: { requiresArg: true, describe: 'Interpreter (default the installed environment)' },
  dir: { requiresArg: true, describe: 'Folder of `envs install` (default $DRCORL_ENVS, or in the cache folder)' },
} satisfies Record<string, Options>

export function openOptions(args: Arguments): OpenOptions {
  return {
    workers: optionalNumber(args, 'workers'),
    timeout: optionalNumber(args, 'timeout'),
    costKey: optionalString(args, 'cost-key'),
    missingCost: optionalNumber(args, 'missing-cost'),
    python: optionalString(args, 'python'),
    dir: optionalString(args, 'dir'),
  }
}
