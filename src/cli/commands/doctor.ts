import type { Command } from '../command.js'
import { type Check, type Diagnosis, diagnose } from '../machine.js'
import { facts } from '../table.js'

const MARKS: Readonly<Record<Check['state'], string>> = { ok: 'ok', optional: '-', missing: 'MISSING' }

export const doctorCommand: Command = {
  command: 'doctor',
  describe: 'Check what training and playing need here, and say what to run where something is missing',

  async run() {
    const diagnosis = await diagnose()
    const { training, policies } = diagnosis.ready
    return { json: { ...diagnosis }, text: describe(diagnosis), status: training && policies ? 0 : 1 }
  },
}

function describe({ machine, checks, libtorch, ready }: Diagnosis): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.flatMap(({ name, state, found, remedy }) => {
    const line = `${MARKS[state].padEnd(8)}${name.padEnd(width)}  ${found}`
    return remedy === null ? [line] : [line, `${' '.repeat(width + 10)}${remedy}`]
  })
  const places = libtorch.map(({ origin, folder, version, cuda, problem, chosen }, index) => {
    const state = problem ?? `${version}${cuda ? ' with CUDA' : ''}`
    const where = folder === null || state.includes(folder) ? '' : `  (${folder})`
    return `  ${index + 1}. ${origin}: ${state}${where}${chosen ? '  <- taken' : ''}`
  })
  const able = (yes: boolean): string => (yes ? 'works' : 'does not work')
  return [
    facts(Object.entries(machine)),
    lines.join('\n'),
    ['libtorch is looked for in this order:', ...places].join('\n'),
    `Playing policies and reading data ${able(ready.policies)}; training ${able(ready.training)}.`,
  ].join('\n\n')
}
