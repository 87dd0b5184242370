/**
 * Event files for TensorBoard: scalars of a run,
 * in the format that `tf.summary` and tfjs-node's `summaryFileWriter` write.
 *
 * A file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h), each holding one `Event`
 * (tensorflow/core/util/event.proto), of which only what a scalar needs is encoded.
 */
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DrcorlError, describeFsError } from '../base/errors.js'
import type { Metric } from '../config/results.js'
import { type Field, concat, double, float, integer, message, text } from '../base/protobuf.js'

const PREFIX = 'events.out.tfevents.'

/** True for the name of an event file. */
export const isEventFile = (name: string): boolean => name.startsWith(PREFIX)

/** Names of a folder's event files, oldest first. */
export async function eventFiles(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter(isEventFile).toSorted()
}

/** Under which tag a metric stands: by its role, so that TensorBoard shows losses with losses. */
export function tagOf(name: string, declared: readonly Metric[]): string {
  const role = declared.find((metric) => metric.name === name)?.role ?? 'diagnostic'
  return `${role}/${name}`
}

/** What TensorBoard tells of each tag: the metric's meaning and its unit. */
export function descriptionsOf(declared: readonly Metric[]): Map<string, string> {
  return new Map(declared.map(({ name, meaning, unit }) => [tagOf(name, declared), `${meaning} Unit: ${unit}.`]))
}

/** Appends scalars to an event file of its own; every file of a folder belongs to the same curve. */
export class EventFile {
  private pending: Buffer[] = []
  /** Texts of tags that this file has not told yet. */
  private readonly untold: Map<string, string>

  private constructor(
    private readonly path: string,
    private readonly file: FileHandle,
    descriptions: ReadonlyMap<string, string>,
  ) {
    this.untold = new Map(descriptions)
  }

  /**
   * Starts a new file in `folder`. A resumed run never appends to the old one, which a killed process may have left
   * with half a record at its end; it tells readers instead to forget what was logged after the checkpoint.
   *
   * @param resumedAt step of the checkpoint a run goes on from: events of later steps in earlier files are void.
   * @param descriptions of tags, in Markdown; each goes with the first value of its tag.
   * @throws DrcorlError `Io` naming the file.
   */
  static async create(
    folder: string,
    resumedAt?: number,
    descriptions: ReadonlyMap<string, string> = new Map(),
  ): Promise<EventFile> {
    const seconds = Math.floor(Date.now() / 1000)
    // TensorBoard reads the files of a folder in the order of their names.
    const number = (await eventFiles(folder)).length
    const name = `${PREFIX}${String(seconds).padStart(10, '0')}.${hostname()}.${process.pid}.${number}`
    const path = join(folder, name)
    try {
      const events = new EventFile(path, await open(path, 'ax'), descriptions)
      events.push(text(3, 'brain.Event:2'))
      if (resumedAt !== undefined) events.push(START, resumedAt + 1)
      await events.flush()
      return events
    } catch (error) {
      throw unwritable(path, error)
    }
  }

  /**
   * Adds one event with a value for each tag.
   *
   * @param step of the run, in gradient steps. @param seconds wall time since 1970; default now.
   */
  add(step: number, scalars: Readonly<Record<string, number>>, seconds = Date.now() / 1000): void {
    const entries = Object.entries(scalars)
    if (entries.length === 0) return
    const values = entries.map(([tag, value]) => message(1, [text(1, tag), float(2, value), ...this.describe(tag)]))
    this.push(message(5, values), step, seconds)
  }

  /** `SummaryMetadata { summary_description = 3 }` in field 9 of a value, once a file. */
  private describe(tag: string): Field[] {
    const description = this.untold.get(tag)
    if (description === undefined) return []
    this.untold.delete(tag)
    return [message(9, [text(3, description)])]
  }

  /** Hands everything added to the system, so that TensorBoard sees it. */
  async flush(): Promise<void> {
    if (this.pending.length === 0) return
    const bytes = Buffer.concat(this.pending)
    this.pending = []
    try {
      await this.file.appendFile(bytes)
    } catch (error) {
      throw unwritable(this.path, error)
    }
  }

  async close(): Promise<void> {
    try {
      await this.flush()
    } finally {
      await this.file.close()
    }
  }

  /** Adds `Event { wall_time = 1, step = 2, <what> }`. */
  private push(what: Field, step = 0, seconds = Date.now() / 1000): void {
    this.pending.push(record(concat([double(1, seconds), integer(2, step), what])))
  }
}

function unwritable(path: string, error: unknown): DrcorlError {
  return new DrcorlError('Io', `cannot write ${path}: ${describeFsError(error)}`, { cause: error })
}

/** A TFRecord: length, its checksum, the data, their checksum; little-endian. */
function record(data: Uint8Array): Buffer {
  const header = Buffer.alloc(12)
  header.writeBigUInt64LE(BigInt(data.length))
  header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8)
  const footer = Buffer.alloc(4)
  footer.writeUInt32LE(maskedCrc32c(data))
  return Buffer.concat([header, data, footer])
}

/** CRC-32C (Castagnoli), polynomial 0x1EDC6F41, reflected. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte
  for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1
  return crc
})

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff]! ^ (crc >>> 8)
  return (crc ^ 0xffffffff) >>> 0
}

/** Rotated and shifted, as the format asks, because the checksum of bytes that hold their own checksum is weak. */
function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes)
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0
}

/** `session_log { status: START }`: a reader discards what it has of this event's step and later. */
const START = message(7, [integer(1, 1)])
