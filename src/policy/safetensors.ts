/**
 * The safetensors format, for float32 tensors and text metadata: 8 bytes with the length of a JSON header, the header,
 * the tensors' bytes (https://huggingface.co/docs/safetensors). Needs no Node.
 */
import { DrcorlError, messageOf } from '../base/errors.js'

/** A tensor: row-major `values` of `shape`. */
export interface Tensor {
  shape: readonly number[]
  values: Float32Array
}

export interface Safetensors {
  metadata: Map<string, string>
  tensors: Map<string, Tensor>
}

/** Largest policy file read, as in the native addon (crates/actor): 67 million weights. */
export const MOST_BYTES = 2 ** 28

/** Bytes of the header's length. */
const PREFIX = 8
const DATA_ALIGNMENT = 8

/**
 * Reads the bytes of a file.
 *
 * @param name stands in messages.
 * @throws DrcorlError `Data` if they are no safetensors file, are truncated, or hold a tensor that is not float32.
 */
export function readSafetensors(bytes: Uint8Array, name: string): Safetensors {
  const refuse = (why: string): DrcorlError =>
    new DrcorlError(
      'Data',
      `${name}: is not a safetensors file, or is truncated (${bytes.length} bytes: ${why}); write the policy again`,
    )
  if (bytes.length < PREFIX) throw refuse('no header')
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const headerLength = Number(view.getBigUint64(0, true))
  const start = PREFIX + headerLength
  if (start > bytes.length) throw refuse(`a header of ${headerLength} bytes`)
  const header = parseHeader(bytes.subarray(PREFIX, start), refuse)
  const metadata = new Map<string, string>()
  const tensors = new Map<string, Tensor>()
  let end = 0
  for (const entry of header) {
    if (entry.name === '__metadata__') {
      if (!isRecord(entry.value)) throw refuse('metadata that are no object')
      for (const [key, text] of Object.entries(entry.value)) {
        if (typeof text !== 'string') throw refuse(`metadata ${key} that is no text`)
        metadata.set(key, text)
      }
      continue
    }
    const { dtype, shape, from, to } = placeOf(entry, refuse)
    if (dtype !== 'F32') throw new DrcorlError('Data', `${name}: ${entry.name}: has the type ${dtype}, expected F32`)
    if (from !== end) throw refuse(`${entry.name} begins at ${from}, not at ${end}`)
    if (to - from !== 4 * shape.reduce((count, size) => count * size, 1)) {
      throw refuse(`${entry.name} of shape [${shape.join(', ')}] has ${to - from} bytes`)
    }
    if (start + to > bytes.length) throw refuse(`${entry.name} ends at ${to}`)
    end = to
    const origin = bytes.byteOffset + start
    // A copy: a view would need the bytes at a multiple of four.
    tensors.set(entry.name, {
      shape,
      values: new Float32Array(bytes.buffer.slice(origin + from, origin + to) as ArrayBuffer),
    })
  }
  if (start + end !== bytes.length) throw refuse(`tensors end at ${end}, the data at ${bytes.length - start}`)
  return { metadata, tensors }
}

interface Entry {
  name: string
  value: unknown
}

type Refuse = (why: string) => DrcorlError

/** Entries of the header, tensors by their place in the data. */
function parseHeader(bytes: Uint8Array, refuse: Refuse): Entry[] {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw refuse(messageOf(error))
  }
  if (!isRecord(header)) throw refuse('a header that is no object')
  const entries = Object.entries(header).map(([name, value]) => ({ name, value }))
  const place = ({ name, value }: Entry): number => (name === '__metadata__' ? -1 : placeOf({ name, value }, refuse).to)
  return entries
    .map((entry) => ({ entry, place: place(entry) }))
    .sort((a, b) => a.place - b.place)
    .map(({ entry }) => entry)
}

function placeOf({ name, value }: Entry, refuse: Refuse): { dtype: string; shape: number[]; from: number; to: number } {
  const isSize = (size: unknown): size is number => Number.isSafeInteger(size) && (size as number) >= 0
  if (isRecord(value)) {
    const { dtype, shape, data_offsets: offsets } = value
    if (typeof dtype === 'string' && Array.isArray(shape) && shape.every(isSize) && Array.isArray(offsets)) {
      const [from, to] = offsets as unknown[]
      if (offsets.length === 2 && isSize(from) && isSize(to) && from <= to) return { dtype, shape, from, to }
    }
  }
  throw refuse(`${name} without type, shape and place`)
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The bytes of a file: names in order, data at a multiple of 8 bytes, so equal content gives equal bytes. */
export function writeSafetensors({ metadata, tensors }: Safetensors): Uint8Array<ArrayBuffer> {
  const sorted = <T>(map: Map<string, T>): [string, T][] => [...map].sort(([a], [b]) => (a < b ? -1 : 1))
  const header: [string, unknown][] = [['__metadata__', Object.fromEntries(sorted(metadata))]]
  let end = 0
  for (const [name, { shape, values }] of sorted(tensors)) {
    header.push([name, { dtype: 'F32', shape, data_offsets: [end, (end += values.byteLength)] }])
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)))
  const start = Math.ceil((PREFIX + json.length) / DATA_ALIGNMENT) * DATA_ALIGNMENT
  const bytes = new Uint8Array(start + end).fill(0x20, 0, start)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(start - PREFIX), true)
  bytes.set(json, PREFIX)
  let offset = start
  for (const [, { values }] of sorted(tensors)) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), offset)
    offset += values.byteLength
  }
  return bytes
}
