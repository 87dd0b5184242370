/** The protocol-buffers wire format, writing only: https://protobuf.dev/programming-guides/encoding. */

/** One encoded field; a message is its fields one after another. */
export type Field = Uint8Array

const VARINT = 0
const BYTES = 2

function varint(value: number): number[] {
  const bytes: number[] = []
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest]
    bytes.push((rest % 128) | 128)
  }
}

const tag = (field: number, type: number): number[] => varint(field * 8 + type)

/** A whole number that is not negative. */
export const integer = (field: number, value: number): Field =>
  Uint8Array.from([...tag(field, VARINT), ...varint(value)])

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
