import { defaultPreset } from '../../config/load.js'
import { loadSchema } from '../../config/schema.js'
import { TASKS } from '../../data/tasks.js'
import { EMBEDDED_ENVS } from '../../envs/registry.js'
import type { Command } from '../command.js'
import { table } from '../table.js'

type Value = string | number | readonly (string | number)[]
type Row = Record<string, Value>

/** One entry a list: its rows as JSON, and those columns that would make the table too wide. */
const LISTS: Record<string, { rows: () => Row[]; wide?: string[] }> = {
  algorithms: {
    rows: () =>
      Object.entries(loadSchema().algorithms).map(([name, { label, summary, presets, takes_limit }]) => ({
        algorithm: name,
        label,
        presets: Object.keys(presets),
        default_preset: defaultPreset(Object.keys(presets)) ?? 'none',
        takes_limit: takes_limit ? 'yes' : 'no',
        summary,
      })),
    wide: ['takes_limit'],
  },
  presets: {
    rows: () =>
      Object.entries(loadSchema().algorithms).flatMap(([algorithm, { presets }]) =>
        Object.entries(presets).map(([preset, { summary }]) => ({ algorithm, preset, summary })),
      ),
  },
  tasks: {
    rows: () => TASKS.map((task) => Object.fromEntries(Object.entries(task))),
    wide: ['dataset_file', 'min_cost', 'dataset_url', 'density'],
  },
  environments: {
    rows: () =>
      EMBEDDED_ENVS.map(({ id, summary, task, make, default_cost_limit }) => ({
        environment: id,
        obs_dim: task.obs_dim,
        act_dim: make(1).act_dim,
        episode_length: task.episode_length,
        cost_limit: default_cost_limit,
        summary,
      })),
  },
}

export const listCommand: Command = {
  command: 'list [what]',
  describe: 'List algorithms, presets, tasks and environments',
  builder: (yargs) =>
    yargs.positional('what', { choices: Object.keys(LISTS), describe: 'One of them; all if left out' }),

  run(args) {
    const chosen = Object.entries(LISTS).filter(([name]) => args['what'] === undefined || args['what'] === name)
    const json = Object.fromEntries(chosen.map(([name, { rows }]) => [name, rows()]))
    const text = chosen.map(([name, { wide }]) => `${name}\n${show(json[name] ?? [], wide)}`).join('\n\n')
    return Promise.resolve({ json, text })
  },
}

function show(rows: readonly Row[], hidden: readonly string[] = []): string {
  const names = Object.keys(rows[0] ?? {}).filter((name) => !hidden.includes(name))
  return table(
    names,
    rows.map((row) => names.map((name) => cell(row[name] ?? ''))),
  )
}

function cell(value: Value): string | number {
  if (typeof value === 'number') return Number(value.toPrecision(5))
  return typeof value === 'string' ? value : value.join(', ')
}
