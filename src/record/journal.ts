/**
 * What a recording has so far: a file beside the output to which every round of episodes is added when it has ended.
 *
 * One line of JSON says what is recorded; then come blocks of [u32 length of the JSON][JSON][columns][SHA-256], each
 * digest also over the one before. What a crash left of the last block is cut off.
 */
import { createHash } from 'node:crypto'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { DrcorlError, describeFsError } from '../base/errors.js'
import { emptyColumns } from '../envs/columns.js'
import type { VecEnv } from '../envs/env.js'
import type { DatasetColumns } from '../native/dataset.js'

/** One episode as it was played. */
export interface RecordedEpisode {
  /** As it was named. */
  policy: string
  /** Seed the environment was reset with. */
  seed: number
  /** Undiscounted sums over its steps. */
  return: number
  cost: number
  /** Steps. */
  length: number
  terminated: boolean
}

/** A round: episodes side by side, in their order. */
export interface Round {
  episodes: RecordedEpisode[]
  /** As the environment executed them. */
  environment_steps: number
  columns: DatasetColumns
}

interface Entry {
  episodes: RecordedEpisode[]
  environment_steps: number
  /** Where its columns lie. */
  at: number
}

/** What a recording must have in common with the one that goes on with it; each value is told in messages. */
export type Recipe = Readonly<Record<string, unknown>>

interface Head {
  format: typeof FORMAT
  obs_dim: number
  act_dim: number
  /** Left out where there are none. */
  further_costs?: readonly string[]
  recipe: Recipe
}

const FORMAT = 'drcorl-recording/1'
const DIGEST_BYTES = 32
/** A longer first line is no head of ours, a longer description no round. */
const MOST_JSON = 1 << 24

const COLUMNS = ['observations', 'next_observations', 'actions', 'rewards', 'costs', 'terminals', 'timeouts'] as const

/** What a transition is made of. */
type Sizes = Pick<VecEnv, 'obs_dim' | 'act_dim' | 'further_costs'>

/** All columns in the order of a block. */
const listed = (columns: DatasetColumns, { further_costs = [] }: Pick<Sizes, 'further_costs'>) => [
  ...COLUMNS.map((name) => columns[name]),
  ...further_costs.map((name) => columns.further![name]!),
]

/** Where transitions wait until the recording is whole. */
export class Journal {
  readonly rounds: Entry[] = []
  /** Of all rounds. */
  episodes = 0
  transitions = 0

  private constructor(
    readonly path: string,
    private readonly file: FileHandle,
    readonly head: Head,
    private end: number,
    private digest: Buffer,
  ) {}

  /** @throws DrcorlError `Io` (exit status 2) where there is a file, or none can be made. */
  static async create(path: string, sizes: Sizes, recipe: Recipe): Promise<Journal> {
    const { obs_dim, act_dim, further_costs = [] } = sizes
    const further = further_costs.length === 0 ? {} : { further_costs }
    const head: Head = { format: FORMAT, obs_dim, act_dim, ...further, recipe }
    const line = Buffer.from(`${JSON.stringify(head)}\n`)
    try {
      const file = await open(path, 'wx+')
      await file.write(line, 0, line.length, 0)
      return new Journal(path, file, head, line.length, sha256(line))
    } catch (error) {
      throw new DrcorlError('Io', `cannot write ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
    }
  }

  /**
   * Opens one that was left, without what is damaged at its end.
   *
   * @throws DrcorlError `Io` or `Data` (exit status 2) for a file that cannot be opened, or is something else.
   */
  static async open(path: string): Promise<Journal> {
    const file = await open(path, 'r+').catch((error: unknown) => {
      throw new DrcorlError('Io', `cannot open ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
    })
    try {
      const line = await readLine(file)
      const head = parse(line) as Head | null
      if (line === null || head?.format !== FORMAT || !(head.obs_dim > 0) || !(head.act_dim > 0)) {
        throw new DrcorlError('Data', `${path} is no recording of drcorl`, {
          hint: 'move it away, or name another output',
        })
      }
      const journal = new Journal(path, file, head, line.length, sha256(line))
      await journal.scan()
      return journal
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /** Adds a round: it is on the disk when this returns. */
  async add({ episodes, environment_steps, columns }: Round): Promise<void> {
    const json = Buffer.from(JSON.stringify({ episodes, environment_steps }))
    const length = Buffer.alloc(4)
    length.writeUInt32LE(json.length)
    const body = Buffer.concat([length, json, ...listed(columns, this.head).map(bytesOf)])
    const digest = sha256(this.digest, body)
    const at = this.end + length.length + json.length
    try {
      await this.file.write(Buffer.concat([body, digest]), 0, body.length + DIGEST_BYTES, this.end)
      await this.file.sync()
    } catch (error) {
      throw new DrcorlError('Io', `cannot write ${this.path}: ${describeFsError(error)}`, { cause: error })
    }
    this.end += body.length + DIGEST_BYTES
    this.digest = digest
    this.count({ episodes, environment_steps, at })
  }

  /** The transitions of the first `episodes`, of all rounds one after the other. */
  async columns(episodes: number, source: string): Promise<DatasetColumns> {
    const rows = sum(this.rounds.flatMap((round) => round.episodes).slice(0, episodes), ({ length }) => length)
    const { further_costs } = this.head
    const all = emptyColumns(this.head, rows, source, further_costs)
    let [row, left] = [0, episodes]
    for (const round of this.rounds) {
      const kept = sum(round.episodes.slice(0, left), ({ length }) => length)
      const part = listed(emptyColumns(this.head, rowsOf(round), source, further_costs), this.head)
      let { at } = round
      for (const [index, column] of listed(all, this.head).entries()) {
        const read = part[index]!
        const bytes = bytesOf(read)
        await this.file.read(bytes, 0, bytes.length, at)
        at += bytes.length
        const width = read.length / rowsOf(round)
        column.set(read.subarray(0, kept * width), row * width)
      }
      row += kept
      left = Math.max(0, left - round.episodes.length)
    }
    return all
  }

  async close(): Promise<void> {
    await this.file.close()
  }

  /** Closes and removes it. */
  async remove(): Promise<void> {
    await this.close()
    await rm(this.path, { force: true })
  }

  private count(entry: Entry): void {
    this.rounds.push(entry)
    this.episodes += entry.episodes.length
    this.transitions += rowsOf(entry)
  }

  /** Reads as many blocks as are whole, and cuts off the rest. */
  private async scan(): Promise<void> {
    for (;;) {
      const entry = await this.next()
      if (entry === null) break
      this.count(entry)
    }
    await this.file.truncate(this.end)
  }

  private async next(): Promise<Entry | null> {
    const length = await this.take(this.end, 4)
    const size = length?.readUInt32LE() ?? 0
    const json = size > 0 && size <= MOST_JSON ? await this.take(this.end + 4, size) : null
    const entry = json === null ? null : (parse(json) as Pick<Entry, 'episodes' | 'environment_steps'> | null)
    if (length === null || json === null || !Array.isArray(entry?.episodes)) return null
    const at = this.end + 4 + size
    const bytes = rowsOf(entry) * rowBytes(this.head)
    const rest = Number.isSafeInteger(bytes) ? await this.take(at, bytes + DIGEST_BYTES) : null
    if (rest === null) return null
    const digest = sha256(this.digest, length, json, rest.subarray(0, bytes))
    if (!digest.equals(rest.subarray(bytes))) return null
    this.end = at + bytes + DIGEST_BYTES
    this.digest = digest
    return { ...entry, at }
  }

  /** So many bytes, or null where the file has not that many. */
  private async take(at: number, bytes: number): Promise<Buffer | null> {
    const { size } = await this.file.stat()
    if (at + bytes > size) return null
    const buffer = Buffer.alloc(bytes)
    const { bytesRead } = await this.file.read(buffer, 0, bytes, at)
    return bytesRead === bytes ? buffer : null
  }
}

/** Bytes of one transition in a journal, and of its columns in memory. */
export const rowBytes = ({ obs_dim, act_dim, further_costs = [] }: Sizes): number =>
  4 * (2 * obs_dim + act_dim + 2 + further_costs.length) + 2

const rowsOf = ({ episodes }: Pick<Entry, 'episodes'>): number => sum(episodes, ({ length }) => length)

const sum = <T>(items: readonly T[], of: (item: T) => number): number =>
  items.reduce((total, item) => total + of(item), 0)

const bytesOf = (column: Float32Array | Uint8Array): Buffer =>
  Buffer.from(column.buffer, column.byteOffset, column.byteLength)

function sha256(...parts: Buffer[]): Buffer {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

/** The first line with its end; null where it is too long to be ours. */
async function readLine(file: FileHandle): Promise<Buffer | null> {
  const { size } = await file.stat()
  const buffer = Buffer.alloc(Math.min(size, MOST_JSON))
  await file.read(buffer, 0, buffer.length, 0)
  const end = buffer.indexOf(0x0a)
  return end < 0 ? null : buffer.subarray(0, end + 1)
}

function parse(json: Buffer | null): unknown {
  try {
    return JSON.parse(String(json)) as unknown
  } catch {
    return null
  }
}
