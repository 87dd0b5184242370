/** Damage of the kinds that disks, networks, editors and people do, drawn from a seed. */

/** Splitmix32. */
export class Draws {
  constructor(private state: number) {}

  next(): number {
    this.state = (this.state + 0x9e3779b9) | 0
    let z = this.state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  below(bound: number): number {
    return bound > 0 ? this.next() % bound : 0
  }

  of<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!
  }
}

const HUGE = [0xffff_ffff_ffff_ffffn, 1n << 63n, 1n << 62n, 1n << 40n, 1n << 31n, 0n, 1n]

/** One to three damages of the bytes, one in two cases of five. */
export function mutateBytes(original: Uint8Array, draws: Draws): Uint8Array {
  let bytes = Buffer.from(original)
  for (let times = draws.below(5) >> 1; times >= 0; times -= 1) bytes = damage(bytes, draws)
  return bytes
}

function damage(bytes: Buffer, draws: Draws): Buffer<ArrayBuffer> {
  const at = draws.below(bytes.length)
  const copy = Buffer.from(bytes)
  switch (bytes.length === 0 ? 3 : draws.below(7)) {
    case 0:
      for (let flips = draws.below(4); flips >= 0; flips -= 1) copy[draws.below(copy.length)]! ^= 1 << draws.below(8)
      return copy
    case 1:
      return copy.subarray(0, at)
    case 2:
      return copy.fill(draws.of([0x00, 0xff, 0x7f]), at, Math.min(at + 1 + draws.below(64), copy.length))
    case 3:
      return Buffer.concat([copy, Buffer.alloc(draws.below(64))])
    case 4:
      if (copy.length >= 8) copy.writeBigUInt64LE(draws.of(HUGE), draws.below(copy.length - 7))
      return copy
    case 5:
      return Buffer.concat([copy.subarray(0, at), copy.subarray(at + 1 + draws.below(16))])
    default:
      copy.copyWithin(draws.below(copy.length), at, at + draws.below(200))
      return copy
  }
}

const TEXTS = ['', 'x', '<script>alert(1)</script>', '\u001b[2J', '=1+1', '__proto__', 'NaN']
const NUMBERS = [0, -1, 0.5, 1e308, 1e-320, 2 ** 31, 2 ** 53, 2 ** 64, -(2 ** 63)]
const LONG = Array.from({ length: 300 }, (_, index) => index)
const ODD: readonly unknown[] = [null, true, ...NUMBERS, ...TEXTS, [], {}, [null], { a: {} }, LONG]
const KEYS = ['__proto__', 'constructor', 'toString', 'a', '']

/** One to three values of a JSON document are others, gone, doubled or renamed. */
export function mutateJson(text: string, draws: Draws): string {
  const document: unknown = JSON.parse(text)
  const root = { document }
  for (let times = draws.below(3); times >= 0; times -= 1) {
    const places: [parent: Record<string, unknown>, key: string][] = []
    collect(root, places)
    const [parent, key] = draws.of(places)
    const value = parent[key]
    switch (draws.below(6)) {
      case 0:
        if (Array.isArray(parent)) parent.splice(Number(key), 1)
        else delete parent[key]
        break
      case 1:
        if (Array.isArray(parent)) parent.push(structuredClone(value))
        else
          Object.defineProperty(parent, draws.of(KEYS), { value, enumerable: true, configurable: true, writable: true })
        break
      case 2:
        if (typeof value === 'number') parent[key] = draws.of([-value, value * 1e9, value + 0.5, value + 1])
        break
      default:
        parent[key] = structuredClone(draws.of(ODD))
    }
    if (!Object.hasOwn(root, 'document')) root.document = null
  }
  return JSON.stringify(root.document)
}

function collect(value: object, places: [Record<string, unknown>, string][]): void {
  for (const [key, inner] of Object.entries(value)) {
    places.push([value as Record<string, unknown>, key])
    if (typeof inner === 'object' && inner !== null && places.length < 10_000) collect(inner, places)
  }
}

/** Cells and lines of a table of text, or its bytes. */
export function mutateTable(text: string, draws: Draws, separator = ','): Uint8Array {
  if (draws.below(3) === 0) return mutateBytes(Buffer.from(text), draws)
  const lines = text.split('\n')
  const at = draws.below(lines.length)
  const cells = lines[at]!.split(separator)
  const odd = ['', 'nan', 'inf', '-1', '1e308', '1e999', '"', 'x', '=1+1', '__proto__', '2026-01-01', '0x10', '１']
  switch (draws.below(4)) {
    case 0:
      lines.splice(at, 1)
      break
    case 1:
      lines.splice(draws.below(lines.length), 0, lines[at]!)
      break
    case 2:
      cells.splice(draws.below(cells.length), 1)
      lines[at] = cells.join(separator)
      break
    default:
      cells[draws.below(cells.length)] = draws.of(odd)
      lines[at] = cells.join(separator)
  }
  return Buffer.from(lines.join('\n'))
}
