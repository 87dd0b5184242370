import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { main } from '../../src/cli/main.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const NODE = [`--import=${import.meta.resolve('@oxc-node/core/register')}`]

/** Command and arguments of the CLI from its sources, so that no test runs an old build. */
export const CLI: readonly string[] = [process.execPath, ...NODE, join(ROOT, 'src/cli/main.ts')]

export interface Finished {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export interface Started {
  child: ChildProcess
  finished: Promise<Finished>
  /** Resolves when stderr has matched; rejects when the process ends before. */
  waitFor(pattern: RegExp): Promise<void>
}

/** Starts the CLI in the repository, with `node` added to Node's own options. */
export function start(args: readonly string[], node: readonly string[] = []): Started {
  const [command = '', ...rest] = CLI
  const script = rest.length - 1
  const words = [...rest.slice(0, script), ...node, ...rest.slice(script), ...args]
  return watch(spawn(command, words, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] }))
}

/** Runs the CLI to its end. */
export const drcorl = (...args: string[]): Promise<Finished> => start(args).finished

/**
 * Runs a command line in this process: quick, and all that matters where neither signals nor native work are involved.
 */
export async function inProcess(...args: string[]): Promise<Pick<Finished, 'status' | 'stdout' | 'stderr'>> {
  let stdout = ''
  let stderr = ''
  const status = await main(args, {
    stdout: { write: (text) => (stdout += text) },
    stderr: { write: (text) => (stderr += text) },
  })
  return { status, stdout, stderr }
}

/** Runs any program to its end, with the output of the CLI's tests. */
export const run = (command: string, args: readonly string[], cwd = ROOT): Promise<Finished> =>
  watch(spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })).finished

function watch(child: ChildProcess): Started {
  let stdout = ''
  let stderr = ''
  const waiting = new Set<() => void>()
  child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr?.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
    for (const check of waiting) check()
  })
  const finished = new Promise<Finished>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
  const waitFor = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const check = (): void => {
        if (!pattern.test(stderr)) return
        waiting.delete(check)
        resolve()
      }
      waiting.add(check)
      check()
      void finished.then(() => reject(new Error(`the process ended before ${String(pattern)}:\n${stderr}`)))
    })
  return { child, finished, waitFor }
}

export const temporaryFolder = (): Promise<string> => mkdtemp(join(tmpdir(), 'drcorl-cli-'))
