import { toDrcorlError } from '../../base/errors.js'
import { coreEnvironment, cpuFeatures } from '../../native/environment.js'
import type { Command } from '../command.js'
import { machine } from '../machine.js'
import { facts } from '../table.js'

export const infoCommand: Command = {
  command: 'info',
  describe: 'Show versions, libtorch, devices, threads and CPU features',

  async run() {
    const system = machine()
    // The command that shows what is installed has to work where the addon is not.
    const orError = (error: unknown): Record<string, unknown> => {
      const { code, message, hint } = toDrcorlError(error)
      return { error: { code, message, hint } }
    }
    const runtime = await Promise.resolve()
      .then(() => ({ cpu_features: cpuFeatures() }))
      .catch(orError)
    const native = { ...runtime, ...(await coreEnvironment().catch(orError)) }
    const entries = [...Object.entries(system), ...Object.entries(native)]
    return { json: { ...system, native }, text: facts(entries.map(([name, value]) => [name, show(value)])) }
  },
}

function show(value: unknown): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  if (Array.isArray(value) && value.every((item) => typeof item !== 'object')) return value.join(', ')
  return JSON.stringify(value)
}
