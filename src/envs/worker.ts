/**
 * One Python process of the bridge: spawned, spoken to in frames, watched, and always ended.
 *
 * Frames and requests are described in bridge/drcorl_bridge/frames.py, the status page in status.py beside it.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { endianness, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'

/** Version of the frames; must be that of bridge/drcorl_bridge/__init__.py. */
export const PROTOCOL = 3

export const REQUEST = { open: 1, reset: 2, step: 3, close: 4 } as const

const OK = 0
const FAILED = 1
/** How the server calls what went wrong on its side: see bridge/drcorl_bridge/frames.py. */
const REPORTED_KINDS = ['exception', 'shape', 'value', 'package'] as const
const HEADER_BYTES = 8
/** More than any reply of ours: what is longer was not written by the server. */
const LONGEST_FRAME = 2 ** 30
const STATUS_BYTES = 16
const STARTING = 0
const STDERR_LINES = 20
/**
 * For the stack of a hang to be written, for the environment to tidy up, for the supervisor to end all it started, for
 * the last lines of stderr to arrive.
 */
const GRACE_MS = { abort: 500, close: 2000, end: 2000, output: 300 }
const SERVER = fileURLToPath(new URL('bridge/serve.py', import.meta.url))

/**
 * What went wrong in a worker. `row` counts within the worker; undefined where it is not known or no row was at work.
 */
export class WorkerFailure extends Error {
  override readonly name = 'WorkerFailure'

  constructor(
    readonly kind: 'start' | 'crash' | 'timeout' | 'protocol' | (typeof REPORTED_KINDS)[number],
    message: string,
    readonly details: { row?: number | undefined; step?: number | undefined; trace?: readonly string[] } = {},
  ) {
    super(message)
  }
}

export interface WorkerOptions {
  /** Interpreter. */
  python: string
  /** True keeps PYTHONPATH, the user's site-packages and the current folder out. */
  isolated: boolean
  /** Seconds without a sign of life after which the worker is given up. */
  timeout: number
}

interface Pending {
  resolve(body: Buffer): void
  reject(error: WorkerFailure): void
}

/** What the server says of itself in its first frame. */
interface Hello {
  protocol: unknown
}

export class Worker {
  private readonly child: ChildProcess
  private readonly input: Socket
  private readonly output: Socket
  private readonly status: StatusPage
  private readonly exited: Promise<unknown>
  private readonly stderr = new Tail(STDERR_LINES)
  private readonly watch: NodeJS.Timeout
  private readonly request = Buffer.alloc(HEADER_BYTES)
  private pending: Pending | undefined
  private received: Buffer[] = []
  private receivedBytes = 0
  /** Set by the first failure; later calls are refused with it. */
  private failure: WorkerFailure | undefined
  /** Why the process was ended from this side, where it was. */
  private verdict: WorkerFailure | undefined
  private aliveAt = performance.now()

  private constructor(private readonly options: WorkerOptions) {
    this.status = new StatusPage()
    const flags = ['-B', ...(options.isolated ? ['-I'] : [])]
    this.child = spawn(options.python, [...flags, SERVER], {
      // A group of its own: Ctrl-C reaches this process alone, which then ends the other side.
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe', this.status.descriptor],
      env: { OMP_NUM_THREADS: '1', OPENBLAS_NUM_THREADS: '1', ...process.env },
    })
    this.input = this.child.stdin as Socket
    this.output = this.child.stdout as Socket
    // An interpreter that cannot be started emits 'error' and never 'exit'.
    this.exited = once(this.child, 'exit').catch(() => undefined)
    this.child.on('error', (error) => this.fail(new WorkerFailure('start', describeFsError(error))))
    this.child.on('exit', (code, signal) => void this.ended(signal ?? `status ${code}`))
    // A pipe that breaks is a process that ended: its own event says how.
    this.input.on('error', () => undefined)
    this.output.on('data', (chunk: Buffer) => this.receive(chunk))
    const errors = this.child.stderr as Socket
    errors.on('data', (chunk: Buffer) => this.stderr.add(chunk))
    for (const pipe of [this.input, errors]) pipe.unref()
    this.watch = setInterval(() => this.look(), Math.min(1000, (options.timeout * 1000) / 4))
    this.watch.unref()
    this.hold(false)
  }

  /**
   * Starts a worker and shakes hands with it.
   *
   * @throws WorkerFailure, or DrcorlError `Io` where no temporary file can be made.
   */
  static async start(options: WorkerOptions): Promise<Worker> {
    const worker = new Worker(options)
    try {
      const { protocol } = readObject<Hello>(await worker.reply())
      if (protocol === PROTOCOL) return worker
      throw new WorkerFailure(
        'protocol',
        `the server speaks protocol ${String(protocol)}, this drcorl ${PROTOCOL}: the package is a mixture of two versions`,
      )
    } catch (error) {
      await worker.kill()
      throw error
    }
  }

  /** Last lines of what the process wrote to stdout and stderr. */
  get log(): readonly string[] {
    return this.stderr.lines
  }

  /**
   * Sends a request. Calls must not overlap.
   *
   * @returns the body of the reply.
   */
  call(kind: number, body: Uint8Array): Promise<Buffer> {
    if (this.failure !== undefined) return Promise.reject(this.failure)
    const reply = this.reply()
    this.request.writeUInt32LE(body.byteLength, 0)
    this.request.writeUInt32LE(kind, 4)
    // One write, so one wake-up of the other side.
    this.input.write(Buffer.concat([this.request, body]))
    return reply
  }

  /** As `call`; the reply must be a JSON object, whose members are still to be looked at. */
  async callJson<T extends object>(kind: number, value: unknown): Promise<{ [K in keyof T]: unknown }> {
    return readObject<T>(await this.call(kind, Buffer.from(JSON.stringify(value))))
  }

  /** Lets the environments tidy up, then ends the process whatever they do. */
  async close(): Promise<void> {
    if (this.failure === undefined && this.pending === undefined) {
      await Promise.race([this.call(REQUEST.close, new Uint8Array()).catch(() => undefined), sleep(GRACE_MS.close)])
    }
    await this.kill()
  }

  /** Ends the process and all that it started (bridge/drcorl_bridge/supervisor.py), and waits until they are gone. */
  async kill(): Promise<void> {
    this.child.ref()
    this.signal('SIGTERM')
    const late = new AbortController()
    const given = sleep(GRACE_MS.end, undefined, { signal: late.signal }).catch(() => undefined)
    await Promise.race([this.exited, given])
    late.abort()
    // Whatever is left of the group: there may be no supervisor, or it may have been stopped.
    this.signal('SIGKILL', true)
    await this.exited
  }

  /** Fails the call that is pending, and every later one, and ends the process. */
  stop(failure: WorkerFailure): void {
    void this.kill()
    this.fail(failure)
  }

  private reply(): Promise<Buffer> {
    this.aliveAt = performance.now()
    this.hold(true)
    return new Promise((resolve, reject) => {
      if (this.failure !== undefined) reject(this.failure)
      else this.pending = { resolve, reject }
    })
  }

  private receive(chunk: Buffer): void {
    this.received.push(chunk)
    this.receivedBytes += chunk.length
    if (this.receivedBytes < HEADER_BYTES) return
    const frame = this.received.length === 1 ? chunk : Buffer.concat(this.received)
    const length = frame.readUInt32LE(0)
    if (length > LONGEST_FRAME) {
      return this.stop(new WorkerFailure('protocol', 'something else than a frame'))
    }
    if (frame.length < HEADER_BYTES + length) {
      this.received = [frame]
      return
    }
    // One reply a request: whatever follows it was not written by the server, or the server miscounted.
    if (frame.length > HEADER_BYTES + length || this.pending === undefined) {
      const bytes = `${frame.length} bytes for a reply of ${HEADER_BYTES + length}`
      return this.stop(new WorkerFailure('protocol', bytes))
    }
    this.received = []
    this.receivedBytes = 0
    const body = frame.subarray(HEADER_BYTES, HEADER_BYTES + length)
    const kind = frame.readUInt32LE(4)
    if (kind === OK) return this.settle()?.resolve(body)
    if (kind === FAILED) return this.fail(reported(body))
    return this.stop(new WorkerFailure('protocol', `a reply of the unknown kind ${kind}`))
  }

  private settle(): Pending | undefined {
    const { pending } = this
    this.pending = undefined
    this.hold(false)
    return pending
  }

  private fail(failure: WorkerFailure): void {
    if (this.failure === undefined) {
      const { row } = failure.details
      const trace = failure.details.trace ?? this.log
      this.failure = new WorkerFailure(failure.kind, failure.message, {
        ...failure.details,
        row: row ?? this.status.row,
        trace,
      })
    }
    clearInterval(this.watch)
    this.settle()?.reject(this.failure)
  }

  /** The heartbeat: any progress since the last look is a sign of life, however long the whole call takes. */
  private look(): void {
    if (this.pending === undefined) return
    const now = performance.now()
    if (this.status.moved()) this.aliveAt = now
    else if (now - this.aliveAt > this.options.timeout * 1000) void this.giveUp()
  }

  private async giveUp(): Promise<void> {
    clearInterval(this.watch)
    const what = this.status.activity === STARTING ? 'did not start within' : 'gave no sign of life for'
    this.verdict = new WorkerFailure('timeout', `it ${what} ${this.options.timeout} s`)
    // The handler of this signal writes the stack to stderr: where the environment hangs.
    this.signal('SIGABRT')
    await Promise.race([this.exited, sleep(GRACE_MS.abort)])
    await this.kill()
  }

  /** The process is gone: what it wrote last is waited for, then whoever waits for a reply is told. */
  private async ended(how: string): Promise<void> {
    this.status.close()
    await Promise.race([once(this.child, 'close'), sleep(GRACE_MS.output)])
    this.fail(this.verdict ?? new WorkerFailure('crash', `its process ended with ${how}`))
  }

  private signal(signal: NodeJS.Signals, group = false): void {
    const { pid } = this.child
    if (pid === undefined) return
    try {
      process.kill(group ? -pid : pid, signal)
    } catch (error) {
      if (codeOf(error) !== 'ESRCH') throw error
    }
  }

  /**
   * Keeps Node running while a call is pending, and only then:
   * an environment nobody closed must not keep a script alive.
   */
  private hold(busy: boolean): void {
    const change = busy ? 'ref' : 'unref'
    this.child[change]()
    this.output[change]()
  }
}

/** A body that must be a JSON object. An environment can write into the pipe too: nothing in it is believed. */
function readObject<T extends object>(body: Buffer): { [K in keyof T]: unknown } {
  let value: unknown
  try {
    value = JSON.parse(body.toString())
  } catch {
    value = undefined
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as { [K in keyof T]: unknown }
  throw new WorkerFailure('protocol', `${JSON.stringify(body.toString().slice(0, 100))} where a JSON object was due`)
}

interface Failure {
  kind: string
  message: string
  row: number | null
  step: number | null
  trace: string[]
}

/** What the server says of a failure; of an answer that says nothing of the kind, that it does. */
function reported(body: Buffer): WorkerFailure {
  try {
    const { kind, message, row, step, trace } = readObject<Failure>(body)
    const known = REPORTED_KINDS.find((name) => name === kind)
    if (known === undefined || typeof message !== 'string') throw new WorkerFailure('protocol', 'a failure of no kind')
    const parts = Array.isArray(trace) ? trace.filter((part): part is string => typeof part === 'string') : []
    const whole = (value: unknown): number | undefined => (Number.isSafeInteger(value) ? (value as number) : undefined)
    const lines = parts.flatMap((part) => part.trimEnd().split('\n'))
    return new WorkerFailure(known, message, { row: whole(row), step: whole(step), trace: lines })
  } catch (error) {
    return error as WorkerFailure
  }
}

/** The 16 bytes of bridge/drcorl_bridge/status.py, in a file that has no name any more. */
class StatusPage {
  readonly descriptor: number
  private readonly words = new Uint32Array(STATUS_BYTES / 4)
  private counter = 0
  private open = true

  constructor() {
    // Frames and status page are little-endian, and typed arrays are what the machine is.
    if (endianness() !== 'LE') throw new DrcorlError('Config', 'environments in Python need a little-endian machine')
    const path = join(tmpdir(), `drcorl-${process.pid}-${randomBytes(6).toString('hex')}`)
    let descriptor: number | undefined
    try {
      descriptor = openSync(path, 'wx+', 0o600)
      unlinkSync(path)
      // Bytes rather than a length: a page that the disk has no room for would end the process that first touches it.
      const written = writeSync(descriptor, new Uint8Array(STATUS_BYTES))
      if (written < STATUS_BYTES) throw Object.assign(new Error(`${written} bytes written`), { code: 'ENOSPC' })
    } catch (error) {
      if (descriptor !== undefined) closeSync(descriptor)
      throw new DrcorlError('Io', `cannot make a temporary file ${path}: ${describeFsError(error)}`, {
        cause: error,
        hint: 'name a folder with room: TMPDIR=FOLDER',
      })
    }
    this.descriptor = descriptor
  }

  get activity(): number {
    return this.read()[0] ?? STARTING
  }

  /** The row at work, undefined between requests. */
  get row(): number | undefined {
    const [activity = 0, row] = this.read()
    return activity > 1 ? row : undefined
  }

  /** True where work has gone on since the last call. */
  moved(): boolean {
    const before = this.counter
    this.counter = this.read()[2] ?? 0
    return this.counter !== before
  }

  close(): void {
    this.read()
    if (this.open) closeSync(this.descriptor)
    this.open = false
  }

  private read(): Uint32Array {
    if (this.open) readSync(this.descriptor, this.words, 0, STATUS_BYTES, 0)
    return this.words
  }
}

/** The last lines of a stream of text. */
class Tail {
  readonly lines: string[] = []
  private rest = ''

  constructor(private readonly most: number) {}

  add(chunk: Buffer): void {
    const parts = (this.rest + chunk.toString()).split('\n')
    this.rest = (parts.pop() ?? '').slice(-1000)
    this.lines.push(...parts.filter((line) => line.trim() !== '').map((line) => line.slice(0, 1000)))
    this.lines.splice(0, this.lines.length - this.most)
  }
}
