/** Options with a unit: `8GB`, `5m`. */
import { DrcorlError } from '../base/errors.js'
import { type Arguments, optionalString } from './command.js'
import { own } from '../base/own.js'

const BYTES: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }
const SECONDS: Readonly<Record<string, number>> = { '': 1, ms: 1e-3, s: 1, m: 60, min: 60, h: 3600, d: 86_400 }

export const MAX_MEMORY_HELP = 'Memory that the file may take, e.g. 8GB (default: 100 times its size, at least 64 MB)'

/**
 * An amount of memory in bytes: `8GB`, `512M`, `1000000`.
 *
 * @throws DrcorlError `Usage` naming option and text.
 */
export function optionalBytes(args: Arguments, name: string): number | undefined {
  return optionalAmount(args, name, 'an amount of memory such as 8GB', (unit) => own(BYTES, unit.replace(/i?b$/, '')))
}

/**
 * A duration in seconds: `5m`, `90s`, `1.5h`, `30`.
 *
 * @throws DrcorlError `Usage` naming option and text.
 */
export function optionalDuration(args: Arguments, name: string): number | undefined {
  return optionalAmount(args, name, 'a duration such as 90s, 5m or 1h', (unit) => own(SECONDS, unit))
}

function optionalAmount(
  args: Arguments,
  name: string,
  wanted: string,
  factorOf: (unit: string) => number | undefined,
): number | undefined {
  const text = optionalString(args, name)
  if (text === undefined) return undefined
  const [, number, unit = ''] = /^\s*(\d+\.?\d*|\.\d+)\s*([a-z]*)\s*$/i.exec(text) ?? []
  const factor = factorOf(unit.toLowerCase())
  const amount = Number(number) * (factor ?? Number.NaN)
  if (number !== undefined && amount > 0 && Number.isFinite(amount)) return amount
  throw new DrcorlError('Usage', `--${name} "${text}" is not ${wanted}`)
}
