/** A program that works for a while: its lines are shown as they come, its last ones tell why it failed. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { DrcorlError, describeFsError, type ErrorCode } from './errors.js'

const TAIL_LINES = 15
/** pip may list every version there is in one line. */
const LONGEST_LINE = 300

export interface ProgramOptions {
  /** Of the error where the program cannot be started or fails. */
  code: ErrorCode
  /** What to do then; the last lines of the program come before it. */
  hint: string
  env?: NodeJS.ProcessEnv | undefined
  /** Aborting ends the program. */
  signal?: AbortSignal | undefined
  onLine?: ((line: string) => void) | undefined
}

/**
 * Runs a program to its end.
 *
 * @param what it is for; the error begins with it.
 * @throws DrcorlError `Cancelled`, or what `options.code` says.
 */
export function runProgram(
  what: string,
  command: string,
  args: readonly string[],
  { code, hint, env, signal, onLine }: ProgramOptions,
): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env, signal })
  const tail: string[] = []
  const keep = (line: string): void => {
    if (line.trim() === '') return
    tail.push(line.slice(0, LONGEST_LINE))
    tail.splice(0, tail.length - TAIL_LINES)
    onLine?.(line)
  }
  createInterface(child.stdout).on('line', keep)
  createInterface(child.stderr).on('line', keep)
  return new Promise((resolve, reject) => {
    child.on('error', (error) => {
      if (signal?.aborted) reject(new DrcorlError('Cancelled', `${what} was cancelled`))
      else reject(new DrcorlError(code, `${what}: cannot start ${command}: ${describeFsError(error)}`, { hint }))
    })
    child.on('close', (status, killed) => {
      if (status === 0) return resolve()
      const lines = [...tail, hint].join('\n  ')
      reject(new DrcorlError(code, `${what} failed (${killed ?? `status ${status}`})`, { hint: lines }))
    })
  })
}
