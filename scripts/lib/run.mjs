// Steps of the scripts: a heading, a heartbeat while the step lasts, its duration.
// No dependency: setup runs before npm install.
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Repository root. */
export const ROOT = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '')

const TTY = process.stdout.isTTY === true
// A CI log must show life now and then; a terminal every second.
const HEARTBEAT_MS = TTY ? 1000 : 30_000
const TAIL_LINES = 80

/** An error whose message is all the user needs: no stack is printed. */
export class StepError extends Error {}

/** One about what was asked for. */
export class UsageError extends StepError {
  exitStatus = 2
}

/** Prints the error of a script and ends it with its status, or with 1. */
export function fail(error) {
  console.error(error instanceof StepError ? `\n${error.message}` : error)
  process.exit(error?.exitStatus ?? 1)
}

/** Milliseconds as `0.4 s`, `12 s` or `3 min 07 s`. */
export function duration(ms) {
  const seconds = ms / 1000
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`
}

/** Standard output of a short command, or null when it is missing or fails. */
export function ask(command, args) {
  const answer = spawnSync(command, args, { cwd: ROOT, encoding: 'utf8' })
  return answer.status === 0 ? `${answer.stdout}${answer.stderr}`.trim() : null
}

/** Command and arguments that run npm; where npm runs this script, the same npm. */
export function npm(args) {
  const script = process.env.npm_execpath
  if (script?.endsWith('npm-cli.js')) return [process.execPath, [script, ...args]]
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm', args]
}

function show(text) {
  if (TTY) process.stdout.write(`\r\x1b[2K${text.slice(0, (process.stdout.columns ?? 80) - 1)}`)
  else console.log(text)
}

/**
 * Runs steps in turn, each under a heading of its own and with its duration.
 * @param {[name: string, what: string, step: () => Promise<string | null>][]} steps a step resolves with what it made,
 *   null where nothing was out of date
 * @param {string} done what the last line says before the time it all took
 */
export async function runSteps(steps, done) {
  const started = performance.now()
  for (const [index, [name, what, step]] of steps.entries()) {
    const start = performance.now()
    console.log(`[${index + 1}/${steps.length}] ${name}: ${what}`)
    const result = await step()
    console.log(`    ${result ?? 'up to date'} (${duration(performance.now() - start)})`)
  }
  console.log(`${done} ${duration(performance.now() - started)}\n`)
}

/**
 * Runs a long command quietly: a heartbeat with its last line of output, and its last lines in full if it fails.
 * @param {string} label what is being done
 * @param {string} command
 * @param {string[]} args
 * @param {{ env?: NodeJS.ProcessEnv, note?: () => string, cwd?: string }} [options] `note` replaces the last line in
 *   the heartbeat
 */
export function runQuietly(label, command, args, options = {}) {
  const started = performance.now()
  const tail = []
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? ROOT,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const keep = (chunk) => {
      tail.push(
        ...String(chunk)
          .split(/[\r\n]+/)
          .filter((line) => line.trim() !== ''),
      )
      tail.splice(0, tail.length - TAIL_LINES)
    }
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const beat = setInterval(() => {
      const note = options.note?.() ?? tail.at(-1)?.trim() ?? ''
      show(`    ${label}, ${duration(performance.now() - started)}${note === '' ? '' : `: ${note.slice(0, 100)}`}`)
    }, HEARTBEAT_MS)
    const end = () => {
      clearInterval(beat)
      if (TTY) process.stdout.write('\r\x1b[2K')
    }
    child.on('error', (error) => {
      end()
      reject(new StepError(`${label}: cannot start ${command}: ${error.message}`))
    })
    child.on('close', (code, signal) => {
      end()
      if (code === 0) resolve()
      else {
        const lines = tail.map((line) => `    ${line}`).join('\n')
        reject(new StepError(`${label} failed (${signal ?? `status ${code}`}): ${command} ${args.join(' ')}\n${lines}`))
      }
    })
  })
}

/**
 * Runs a command whose output the user wants to see.
 * @returns {Promise<{ status: number, output: string }>} the exit status (1 for a signal) and the output without
 *   colours
 */
export function runLoudly(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let output = ''
    const tee = (sink) => (chunk) => {
      output += chunk
      sink.write(chunk)
    }
    child.stdout.on('data', tee(process.stdout))
    child.stderr.on('data', tee(process.stderr))
    child.on('error', (error) => {
      console.error(`cannot start ${command}: ${error.message}`)
      resolve({ status: 1, output })
    })
    // oxlint-disable-next-line no-control-regex
    child.on('close', (code) => resolve({ status: code ?? 1, output: output.replaceAll(/\x1b\[[0-9;]*m/g, '') }))
  })
}
