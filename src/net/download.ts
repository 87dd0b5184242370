/** A download that survives broken connections, interruptions and servers that lie. */
import { type FileHandle, lstat, open, readFile, rename, rm, truncate } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { sha256File, writeJson } from '../base/files.js'
import { type Answer, Passing, Restart, reasonOf, redact, request } from './http.js'

/** Bytes of the largest file that is taken where nobody says how large it may be, 4 GiB. */
export const MOST_BYTES = 2 ** 32

export interface DownloadOptions {
  /** Checksum the file must have; the server's own is checked besides. */
  sha256?: string | undefined
  /** Bytes the file may have, default `MOST_BYTES`; what is stated or sent beyond is refused. */
  mostBytes?: number | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((bytes: number, total: number | undefined) => void) | undefined
  /** Told before each further attempt, in a sentence. */
  onRetry?: ((note: string) => void) | undefined
  /** Looks at the complete file before it gets its name; what it throws refuses the file. */
  verify?: ((path: string) => Promise<void>) | undefined
  /** Attempts in a row that bring no byte before giving up, default 5. */
  attempts?: number | undefined
  /** Wait before the first further attempt, default 1000; it doubles each time. */
  waitMs?: number | undefined
  /** Longest silence of a server, default 30000. */
  silenceMs?: number | undefined
}

export interface Downloaded {
  /** Without the name, the password and the parameters in it. */
  url: string
  bytes: number
  sha256: string
  /** What the bytes were compared with besides their number. */
  checked: 'sha256 given' | 'sha256 of the server' | 'size of the server' | 'nothing'
  /** Bytes that an earlier, interrupted download had brought. */
  resumed_from: number
}

/** What is known of a partial file; beside it as `.part.json`. Without a validator it cannot be gone on with. */
interface PartState {
  /** As `Downloaded.url`. */
  url: string
  validator: string
  bytes: number | null
  sha256: string | null
}

/**
 * Downloads `url` to `target`. The bytes collect in `target.part`, from which an interrupted download goes on if the
 * server still has the same file, and get their name when size, checksum and `verify` agree.
 *
 * @throws DrcorlError `Cancelled` when interrupted (the part stays), `Io` when the server or the disk refuses (the part
 *   stays), `Data` when the file is too large or, complete, not what it should be (the part goes).
 */
export async function download(url: string, target: string, options: DownloadOptions = {}): Promise<Downloaded> {
  return new Download(url, target, options).run()
}

class Download {
  /** To be shown and kept. */
  private readonly address: string
  private readonly part: string
  private readonly stateFile: string
  private state: PartState | undefined
  private have = 0
  private resumedFrom = 0

  constructor(
    private readonly url: string,
    private readonly target: string,
    private readonly options: DownloadOptions,
  ) {
    this.address = redact(url)
    this.part = `${target}.part`
    this.stateFile = `${this.part}.json`
  }

  async run(): Promise<Downloaded> {
    await this.recall()
    this.resumedFrom = this.have
    const { attempts = 5, waitMs = 1000 } = this.options
    let failures = 0
    // Counted for themselves: a file that changes all the time brings bytes with every second attempt.
    let restarts = 0
    for (;;) {
      const before = this.have
      try {
        await this.attempt()
        break
      } catch (error) {
        if (this.options.signal?.aborted) throw this.interrupted(error)
        if (!(error instanceof Passing)) throw ioError(error, this.part)
        if (error instanceof Restart) {
          await this.forget()
          restarts += 1
        }
        failures = this.have > before ? 0 : failures + 1
        if (Math.max(failures, restarts) >= attempts) throw this.gaveUp(error, attempts)
        const wait = error.retryAfter ?? waitMs * 2 ** Math.max(0, failures - 1)
        this.options.onRetry?.(`${error.message}; next attempt in ${(wait / 1000).toFixed(1)} s`)
        await delay(wait, undefined, { signal: this.options.signal }).catch((reason: unknown) => {
          throw this.interrupted(reason)
        })
      }
    }
    return this.conclude()
  }

  /**
   * What an earlier run left, if this one can go on with it: files of this user, of this address. At least one byte is
   * asked for, so that the server has a say on every file.
   */
  private async recall(): Promise<void> {
    const found = await Promise.all([this.stateFile, this.part].map((path) => lstat(path).catch(() => undefined)))
    const ours = found.every(
      (file) => file?.isFile() && file.nlink === 1 && file.uid === (process.getuid?.() ?? file.uid),
    )
    const state = ours ? await readFile(this.stateFile, 'utf8').then(parseState, () => undefined) : undefined
    const size = found[1]?.size ?? 0
    const fits = state !== undefined && state.url === this.address && (state.bytes === null || size <= state.bytes)
    if (!fits) return
    this.state = state
    this.have = state.bytes === null ? size : Math.max(0, Math.min(size, state.bytes - 1))
    if (this.have < size) await truncate(this.part, this.have)
  }

  private async forget(): Promise<void> {
    await rm(this.stateFile, { force: true })
    await rm(this.part, { force: true })
    this.state = undefined
    this.have = 0
    this.resumedFrom = 0
  }

  private async attempt(): Promise<void> {
    // Not AbortSignal.any: in Node 20 a signal made by it may be collected before it is raised,
    // and fetch waits for ever.
    const stop = new AbortController()
    const end = (): void => stop.abort()
    const { silenceMs = 30_000, signal } = this.options
    let silent = false
    const timer = setTimeout(() => {
      silent = true
      end()
    }, silenceMs)
    signal?.addEventListener('abort', end, { once: true })
    if (signal?.aborted) end()
    try {
      const answer = await request(this.url, this.have, this.state?.validator ?? '', stop.signal)
      await this.accept(answer)
      await this.receive(answer, () => timer.refresh())
    } catch (error) {
      if (silent) throw new Passing(`the server was silent for ${silenceMs / 1000} s`)
      throw error
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', end)
    }
  }

  /** Compares what the server says with what is at hand, and notes it before the first byte is written. */
  private async accept({ response, file, start }: Answer): Promise<void> {
    if (file.bytes !== undefined && file.bytes > this.mostBytes) {
      await response.body?.cancel()
      await this.forget()
      throw this.tooLarge(`${file.bytes} bytes`)
    }
    if (start > 0) {
      const { bytes, sha256, validator } = file
      const other = (now: unknown, then: unknown): boolean => now !== undefined && then !== null && now !== then
      const changed =
        other(bytes, this.state?.bytes) || other(sha256, this.state?.sha256) || other(validator, this.state?.validator)
      if (!changed) return
      await response.body?.cancel()
      throw new Restart('the file on the server has changed')
    }
    await this.forget()
    this.state = {
      url: this.address,
      validator: file.validator ?? '',
      bytes: file.bytes ?? null,
      sha256: file.sha256 ?? null,
    }
    if (file.validator !== undefined) await writeJson(this.stateFile, this.state)
  }

  private async receive({ response }: Answer, alive: () => void): Promise<void> {
    // A new part is made by this process: the name may be a link by now.
    const file = await open(this.part, this.have > 0 ? 'a' : 'wx')
    const total = this.state?.bytes ?? undefined
    try {
      await this.copy(response, file, total, alive)
    } finally {
      await file.sync()
      await file.close()
    }
    if (total !== undefined && this.have < total) {
      throw this.lost(`the server ended the file after ${this.have} of ${total} bytes`)
    }
  }

  private async copy(
    response: Response,
    file: FileHandle,
    total: number | undefined,
    alive: () => void,
  ): Promise<void> {
    this.options.onProgress?.(this.have, total)
    const reader = response.body?.getReader()
    if (reader === undefined) return
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw this.lost(
          `the connection broke after ${this.have}${total === undefined ? '' : ` of ${total}`} bytes (${reasonOf(error)})`,
        )
      })
      if (done) return
      alive()
      if (total !== undefined && this.have + value.length > total) {
        await reader.cancel()
        throw new Restart(`the server sends more than the ${total} bytes it stated`)
      }
      if (this.have + value.length > this.mostBytes) {
        await reader.cancel()
        await this.forget()
        throw this.tooLarge('more bytes')
      }
      await file.writeFile(value)
      this.have += value.length
      this.options.onProgress?.(this.have, total)
    }
  }

  /** The next attempt goes on from here only if the server gave a validator to ask with. */
  private lost(message: string): Passing {
    return this.state?.validator === '' ? new Restart(message) : new Passing(message)
  }

  /** Size, checksum and content agree: the file gets its name. */
  private async conclude(): Promise<Downloaded> {
    const { address: url, have: bytes, state } = this
    const sha256 = await sha256File(this.part)
    const { verify } = this.options
    const given = this.options.sha256?.toLowerCase()
    try {
      for (const [wanted, whose] of [
        [given, 'asked for'],
        [state?.sha256, 'stated by the server'],
      ] as const) {
        if (wanted !== undefined && wanted !== null && wanted !== sha256) {
          throw new DrcorlError(
            'Data',
            `${url}: the file has sha256 ${sha256}, not ${wanted} as ${whose}; it was removed`,
            {
              hint: 'fetch it again; if that does not help, the file at this address is another one',
            },
          )
        }
      }
      await verify?.(this.part)
    } catch (error) {
      await this.forget()
      throw error
    }
    await rename(this.part, this.target).catch((error: unknown) => {
      throw ioError(error, this.target)
    })
    await rm(this.stateFile, { force: true })
    const checked: Downloaded['checked'] =
      given !== undefined
        ? 'sha256 given'
        : state?.sha256
          ? 'sha256 of the server'
          : state?.bytes
            ? 'size of the server'
            : 'nothing'
    return { url, bytes, sha256, checked, resumed_from: this.resumedFrom }
  }

  private get mostBytes(): number {
    return this.options.mostBytes ?? MOST_BYTES
  }

  private tooLarge(size: string): DrcorlError {
    const message = `${this.address}: the file has ${size}, and at most ${this.mostBytes} are taken; it was removed`
    const hint = 'the address leads to another file, or more must be allowed (data fetch --max-bytes N)'
    return new DrcorlError('Data', message, { hint })
  }

  private interrupted(cause: unknown): DrcorlError {
    const total = this.state?.bytes
    const resumable = this.state !== undefined && this.state.validator !== ''
    const hint = resumable ? 'the same command goes on from there' : 'this server allows no resuming'
    const message = `interrupted after ${this.have}${total ? ` of ${total}` : ''} bytes`
    return new DrcorlError('Cancelled', message, { cause, hint })
  }

  private gaveUp(cause: Passing, attempts: number): DrcorlError {
    return new DrcorlError(
      'Io',
      `cannot fetch ${this.address}: ${cause.message} (${attempts} attempts brought nothing new)`,
      {
        cause,
        hint: 'try again later: the bytes at hand are kept; or name another address with --from URL',
      },
    )
  }
}

function parseState(text: string): PartState | undefined {
  try {
    const state = JSON.parse(text) as PartState
    return typeof state.url === 'string' && typeof state.validator === 'string' ? state : undefined
  } catch {
    return undefined
  }
}

function ioError(error: unknown, path: string): DrcorlError {
  if (error instanceof DrcorlError) return error
  const words = codeOf(error) === undefined ? reasonOf(error) : describeFsError(error)
  return new DrcorlError('Io', `cannot write ${path}: ${words}`, { cause: error })
}
