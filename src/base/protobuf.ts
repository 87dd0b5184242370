/** The protocol-buffers wire format, writing only: https://protobuf.dev/programming-guides/encoding. */

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
