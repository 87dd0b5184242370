/** Files of results as they were stored: by this version or another, whole or damaged. */
import { DrcorlError } from '../base/errors.js'
import { readJson } from '../base/files.js'
import type { Certificate, Evaluation, RunProfile, RunRecord, RunResult } from './results.js'
import { type JsonSchema, type Schema, knownSchema } from './schema.js'

/** What a file holds: of the right types wherever something stands, but another version may have left anything out. */
export type Stored<T> = T extends readonly (infer Item)[]
  ? Stored<Item>[]
  : T extends object
    ? { [Key in keyof T]?: Stored<T[Key]> | undefined }
    : T

/** The files that hold results, by the names of their types. */
interface StoredTypes {
  Certificate: Certificate
  RunResult: RunResult
}

/** Files with a format of their own: what their schema requires stands in them, whichever version wrote them. */
interface WholeTypes {
  Evaluation: Evaluation
  RunProfile: RunProfile
  RunRecord: RunRecord
}

/**
 * Reads a file of results.
 *
 * @throws DrcorlError `Io` or `Data` (exit status 2) naming the file and, where a value has the wrong type, its place.
 */
export async function readStored<Name extends keyof StoredTypes>(
  name: Name,
  path: string,
): Promise<Stored<StoredTypes[Name]>> {
  return requireStored(name, await readJson(path), path)
}

/** The same of what has been read from `path`. @throws DrcorlError `Data`. */
export function requireStored<Name extends keyof StoredTypes>(
  name: Name,
  content: unknown,
  path: string,
): Stored<StoredTypes[Name]> {
  const wrong = isObject(content) ? mismatch(content, name) : 'it must hold a JSON object'
  if (wrong !== null) throw new DrcorlError('Data', `${path}: ${wrong}`)
  return content as Stored<StoredTypes[Name]>
}

/**
 * Reads a file that is whole or of no use.
 *
 * @throws DrcorlError `Io` or `Data` (exit status 2) naming the file and what is missing or of the wrong type.
 */
export async function readWhole<Name extends keyof WholeTypes>(name: Name, path: string): Promise<WholeTypes[Name]> {
  return requireWhole(name, await readJson(path), path)
}

/** The same of what has been read from `path`. @throws DrcorlError `Data`. */
export function requireWhole<Name extends keyof WholeTypes>(
  name: Name,
  content: unknown,
  path: string,
): WholeTypes[Name] {
  const root = knownSchema()?.results.schema
  const node = root?.$defs?.[name]
  const wrong = root === undefined || node === undefined ? null : wrongIn(content, node, { root, whole: true }, '')
  if (wrong !== null) throw new DrcorlError('Data', `${path} is damaged: ${wrong}`)
  return content as WholeTypes[Name]
}

/** The same by a schema of the caller's own. @throws DrcorlError `Data`. */
export function requireSchema(root: JsonSchema, content: unknown, path: string): void {
  const wrong = wrongIn(content, root, { root, whole: true }, '')
  if (wrong !== null) throw new DrcorlError('Data', `${path} is damaged: ${wrong}`)
}

/**
 * What a value has of the wrong type for the generated type of that name, or null. Values of choices and additional
 * keys are those of some version, and accepted.
 */
export function mismatch(value: unknown, name: keyof StoredTypes): string | null {
  const schema = knownSchema()
  if (schema === null) return null
  const roots = [schema.results.schema, ...additions(schema, name)]
  for (const root of roots) {
    const node = root === schema.results.schema ? root.$defs?.[name] : root
    const wrong = node === undefined ? null : wrongIn(value, node, { root, whole: false }, '')
    if (wrong !== null) return wrong
  }
  return null
}

/** What algorithms add to a certificate. */
function additions(schema: Schema, name: keyof StoredTypes): JsonSchema[] {
  if (name !== 'Certificate') return []
  return Object.values(schema.algorithms).flatMap(({ diagnostics }) => (diagnostics === null ? [] : [diagnostics]))
}

/** Where references lead, and whether what the schema requires must be there. */
interface Check {
  root: JsonSchema
  whole: boolean
}

function wrongIn(value: unknown, node: JsonSchema, check: Check, at: string): string | null {
  if (node.$ref !== undefined) {
    const target = check.root.$defs?.[node.$ref.replace('#/$defs/', '')]
    return target === undefined ? null : wrongIn(value, target, check, at)
  }
  const branches = node.anyOf ?? node.oneOf
  if (branches !== undefined) {
    const found = branches.map((branch) => wrongIn(value, branch, check, at))
    // Where the alternative is null, the other branch says what is wrong.
    return found.includes(null) ? null : (found.find((wrong) => !wrong?.endsWith('must be null')) ?? found[0]!)
  }
  const types = [node.type ?? []].flat()
  if (types.length > 0 && !types.some((type) => isOf(type, value))) {
    const place = at === '' ? 'it' : at
    return `${place} is ${JSON.stringify(value)?.slice(0, 60)}, but must be ${types.map(article).join(' or ')}`
  }
  if (typeof value === 'number' && value < (node.minimum ?? -Infinity)) {
    return `${at === '' ? 'it' : at} is ${value}, but must be at least ${node.minimum}`
  }
  if (Array.isArray(value)) {
    const { items, minItems: least = 0, maxItems: most = Infinity } = node
    if (value.length < least || value.length > most) {
      return `${at} has ${value.length} entries, but must have ${least === most ? most : `${least} to ${most}`}`
    }
    return items === undefined
      ? null
      : first(value.entries(), (item) => wrongIn(item[1], items, check, `${at}[${item[0]}]`))
  }
  if (!isObject(value)) return null
  const missing = check.whole ? node.required?.find((key) => !Object.hasOwn(value, key)) : undefined
  if (missing !== undefined) return `${at === '' ? 'it' : at} has no ${missing}`
  const others = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined
  return first(Object.entries(value), ([key, inner]) => {
    const own = Object.hasOwn(node.properties ?? {}, key) ? node.properties?.[key] : others
    return own === undefined ? null : wrongIn(inner, own, check, at === '' ? key : `${at}.${key}`)
  })
}

function first<Item>(items: Iterable<Item>, complaint: (item: Item) => string | null): string | null {
  for (const item of items) {
    const found = complaint(item)
    if (found !== null) return found
  }
  return null
}

function isOf(type: string, value: unknown): boolean {
  if (type === 'null') return value === null
  if (type === 'array') return Array.isArray(value)
  if (type === 'object') return isObject(value)
  if (type === 'number') return isAmount(value)
  if (type === 'integer') return Number.isInteger(value)
  return typeof value === type
}

/** A finite number of which sums and shares are finite too. JSON writes 1e999 for what is no number. */
export const isAmount = (value: unknown): boolean => typeof value === 'number' && Math.abs(value) < 1e300

const article = (type: string): string =>
  type === 'null' ? 'null' : `${/^[aio]/.test(type) ? 'an' : 'a'} ${type === 'integer' ? 'integer' : type}`

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
