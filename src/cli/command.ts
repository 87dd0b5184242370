import { DrcorlError } from '../base/errors.js'
import type { Argv } from 'yargs'

/** What a command hands back to main: exactly one of `json` (with --json) and `text` reaches stdout. */
export interface Output {
  json: Record<string, unknown>
  text: string
  /** Exit status; 0 when left out. */
  status?: number
}

/** The part of a writable stream that is used; tests put their own in its place. */
export interface Stream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

export interface Context {
  /** True with --json. */
  json: boolean
  /** Aborted by the first SIGINT, SIGTERM or SIGHUP. */
  signal: AbortSignal
  /** Notes and progress go here: they never touch stdout. */
  stderr: Stream
}

/** Arguments as yargs hands them over; a command reads its own options by name. */
export type Arguments = Record<string, unknown>

/** One CLI command, a file in `commands/`. A command throws DrcorlError; main prints it and exits with its status. */
export interface Command {
  /** yargs syntax, e.g. `evaluate <run>`. */
  command: string
  describe: string
  /** `argv` is what is being parsed: help may depend on it. */
  builder?(yargs: Argv, argv: readonly string[]): Argv
  /** True where the schema's parameters are flags, in snake_case or kebab-case. */
  takesParameters?: boolean
  /** True where the first SIGINT, SIGTERM or SIGHUP aborts `context.signal`; elsewhere it ends the process. */
  interruptible?: boolean
  run(args: Arguments, context: Context): Promise<Output>
}

/** A string option that may be absent. */
export function optionalString(args: Arguments, name: string): string | undefined {
  const value = args[name]
  return typeof value === 'string' ? value : undefined
}

/**
 * A number option that may be absent.
 *
 * @throws DrcorlError `Usage` naming the option and the text that is no number.
 */
export function optionalNumber(args: Arguments, name: string): number | undefined {
  const value = args[name]
  if (value === undefined) return undefined
  const number = value === '' ? Number.NaN : Number(value)
  if (Number.isFinite(number)) return number
  throw new DrcorlError('Usage', `--${name} "${String(value)}" is not a number`)
}

/** `--NAME 10,20,40` as numbers; undefined where it is not given. */
export function optionalNumbers(args: Arguments, name: string): number[] | undefined {
  return optionalString(args, name)
    ?.split(',')
    .map((text) => {
      const number = text.trim() === '' ? Number.NaN : Number(text)
      if (Number.isFinite(number)) return number
      throw new DrcorlError('Usage', `--${name} "${text}" is not a number; give numbers with commas between them`)
    })
}

/**
 * Numbers given as `--NAME KEY=NUMBER,KEY=NUMBER`.
 *
 * @throws DrcorlError `Usage` for a part without key or number.
 */
export function numbersByKey(args: Arguments, name: string): Record<string, number> {
  const given = optionalString(args, name)
  if (given === undefined) return {}
  return Object.fromEntries(
    given.split(',').map((text) => {
      const [key, value] = text.split('=', 2)
      const number = value === undefined || value.trim() === '' ? Number.NaN : Number(value)
      if (key && Number.isFinite(number)) return [key, number]
      throw new DrcorlError('Usage', `--${name} "${text}" is not of the form NAME=NUMBER`)
    }),
  )
}

/** The command with those of its options that were given, as the reader of a page would type it. */
export function commandLine(command: string, args: Arguments, names: readonly string[]): string {
  const words = names.flatMap((name) => {
    const values = ([] as unknown[]).concat(args[name] ?? [])
    return values.map((value) => `--${name} ${String(value)}`)
  })
  return [`drcorl ${command}`, ...words].join(' ')
}
