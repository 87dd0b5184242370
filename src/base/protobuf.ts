/**
 * The protocol-buffers wire format, written and as far as needed read:
 * https://protobuf.dev/programming-guides/encoding.
 */

/** One encoded field; a message is its fields one after another. */
export type Field = Uint8Array

const VARINT = 0
const FIXED64 = 1
const BYTES = 2
const FIXED32 = 5

function varint(value: number): number[] {
  const bytes: number[] = []
  // Division, not shifts: numbers of steps may need more than 32 bits.
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) | 128)
  }
}

const tag = (field: number, type: number): number[] => varint(field * 8 + type)

/** A whole number that is not negative. */
export const integer = (field: number, value: number): Field =>
  Uint8Array.from([...tag(field, VARINT), ...varint(value)])

export function double(field: number, value: number): Field {
  const content = new DataView(new ArrayBuffer(8))
  content.setFloat64(0, value, true)
  return concat([Uint8Array.from(tag(field, FIXED64)), new Uint8Array(content.buffer)])
}

export function float(field: number, value: number): Field {
  const content = new DataView(new ArrayBuffer(4))
  content.setFloat32(0, value, true)
  return concat([Uint8Array.from(tag(field, FIXED32)), new Uint8Array(content.buffer)])
}

export function bytes(field: number, content: Uint8Array): Field {
  return concat([Uint8Array.from([...tag(field, BYTES), ...varint(content.length)]), content])
}

export const text = (field: number, content: string): Field => bytes(field, new TextEncoder().encode(content))

export const message = (field: number, fields: readonly Field[]): Field => bytes(field, concat(fields))

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let offset = 0
  for (const part of parts) {
    whole.set(part, offset)
    offset += part.length
  }
  return whole
}

/**
 * Contents of every field of that number whose type is bytes, text or a message, in order.
 *
 * @throws RangeError where the bytes are no message.
 */
export function stringsOf(encoded: Uint8Array, field: number): Uint8Array[] {
  const found: Uint8Array[] = []
  let at = 0
  const next = (): number => {
    for (let value = 0, scale = 1; ; scale *= 128) {
      const byte = encoded[at++]
      if (byte === undefined) throw new RangeError('a message ends in a number')
      value += (byte % 128) * scale
      if (byte < 128) return value
    }
  }
  while (at < encoded.length) {
    const key = next()
    const type = key % 8
    if (type === VARINT) next()
    else if (type === FIXED64 || type === FIXED32) at += type === FIXED64 ? 8 : 4
    else if (type === BYTES) {
      const length = next()
      if (Math.floor(key / 8) === field) found.push(encoded.subarray(at, at + length))
      at += length
    } else throw new RangeError(`a field of type ${type}`)
    if (at > encoded.length) throw new RangeError('a message ends in a field')
  }
  return found
}
