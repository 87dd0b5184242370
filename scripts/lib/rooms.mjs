// The rooms of the house and the arrows between them. The order of rooms is stated once, in the table under "Rooms" in
// docs/architecture.md; the arrows are the real ones, from the manifests of the crates and the import lines of src.
// `node scripts/docs.mjs` draws them there, __test__/rooms.spec.ts holds them to the rule.
import { readdirSync, readFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import ts from 'typescript'
import { crates } from './cargo.mjs'
import { DECLARING } from './declarations.mjs'
import { ROOT, StepError } from './run.mjs'

export const PAGE = 'docs/architecture.md'
export const RULE = `a room imports only from rooms above it in the table of ${PAGE}`
/** The border: generated from the crates of the addons, and for src/native alone. */
const BORDER = 'index.d.ts'
const NATIVE = 'src/native'

/**
 * @typedef {{ name: string, layer: string }} Room a folder, or a file that stands alone
 * @typedef {{ file: string, from: string, names: string }} Import `file` has a line that names `names`; `from` is the
 *   file, or the crate if `file` is its manifest
 */

/** Rooms in the order of the table; a row without a layer belongs to the layer of the row above. @returns {Room[]} */
export function readRooms(page = readFileSync(join(ROOT, PAGE), 'utf8')) {
  const section = /^## Rooms\n([^]*?)^## /m.exec(page)?.[1] ?? ''
  let layer = ''
  const rows = [...section.matchAll(/^\| *([^|]*?) *\| `([\w./-]+)` \|/gm)]
  if (rows.length === 0) throw new StepError(`${PAGE} has no table of rooms`)
  return rows.map(([, own, name]) => {
    layer = own || layer
    return { name, layer }
  })
}

const files = (folder) =>
  readdirSync(join(ROOT, folder), { recursive: true })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => posix.join(folder, name.replaceAll('\\', '/')))
    .toSorted()

/** What the import lines of a TypeScript file name inside the repository, whatever their form. @returns {Import[]} */
export function importsOf(file, text = readFileSync(join(ROOT, file), 'utf8')) {
  return ts
    .preProcessFile(text, true, true)
    .importedFiles.filter(({ fileName }) => fileName.startsWith('.'))
    .map(({ fileName }) => {
      const names = posix.join(posix.dirname(file), fileName).replace(/\.js$/, '.ts')
      return { file, from: file, names }
    })
}

/**
 * All there is to draw: sources, each in a room, and the imports among them.
 * @returns {{ sources: string[], imports: Import[] }}
 */
export function readImports() {
  const manifests = crates()
  const folders = new Map(manifests.map(({ name, folder }) => [name, folder]))
  const modules = files('src')
  return {
    sources: [...manifests.map(({ folder }) => folder), BORDER, ...modules],
    imports: [
      ...manifests.flatMap(({ folder, uses }) =>
        uses.map((names) => ({ file: `${folder}/Cargo.toml`, from: folder, names })),
      ),
      ...DECLARING.map((crate) => ({ file: BORDER, from: BORDER, names: folders.get(crate) })),
      ...modules.flatMap((file) => importsOf(file)),
    ],
  }
}

/** The room a file or folder stands in. */
const roomOf = (path, rooms) => rooms.find(({ name }) => path === name || path.startsWith(`${name}/`))

/** What breaks the rule, one sentence each: file, import, rule. */
export function violations(rooms, { sources, imports }) {
  const place = new Map(rooms.map((room, index) => [room, index]))
  const homeless = sources
    .filter((path) => roomOf(path, rooms) === undefined)
    .map((path) => `${path} stands in no room: every crate, folder and file of src has a row in the table of ${PAGE}`)
  const empty = rooms
    .filter((room) => !sources.some((path) => roomOf(path, rooms) === room))
    .map(({ name }) => `${name} has a row in the table of ${PAGE}, and there is no such crate, folder or file`)
  const wrong = imports.flatMap(({ file, from, names }) => {
    const [room, other] = [roomOf(from, rooms), roomOf(names, rooms)]
    if (room === undefined || room === other) return []
    if (other === undefined) return [`${file} imports ${names}, which stands in no room: ${RULE}`]
    if (place.get(other) > place.get(room)) {
      return [`${file} imports ${names}: ${other.name} stands below ${room.name}, and ${RULE}`]
    }
    if (names === BORDER && room.name !== NATIVE) {
      return [`${file} imports ${BORDER}: ${NATIVE} alone calls the addons, and passes on the types that others need`]
    }
    return []
  })
  return [...homeless, ...empty, ...wrong]
}

/** Rooms -> those they import, without the arrows that others imply. */
export function arrows(rooms, { imports }) {
  const direct = new Map(rooms.map((room) => [room, new Set()]))
  for (const { from, names } of imports) {
    const [room, other] = [roomOf(from, rooms), roomOf(names, rooms)]
    if (room !== undefined && other !== undefined && room !== other) direct.get(room).add(other)
  }
  // In the order of the table, so that all a room imports is known before the room.
  const reachable = new Map()
  return rooms.flatMap((room) => {
    const implied = new Set([...direct.get(room)].flatMap((other) => reachable.get(other) ?? []))
    reachable.set(room, [...direct.get(room), ...implied])
    return [...direct.get(room)].filter((other) => !implied.has(other)).map((other) => ({ from: room, to: other }))
  })
}

const id = ({ name }) => name.replaceAll(/\W/g, '_')

/** The picture as a mermaid flowchart, a subgraph a layer. @throws StepError where the rule is broken. */
export function picture() {
  const rooms = readRooms()
  const read = readImports()
  const broken = violations(rooms, read)
  if (broken.length > 0) throw new StepError(broken.join('\n'))
  const layers = [...new Set(rooms.map(({ layer }) => layer))]
  const boxes = layers.map((layer, index) => {
    const inside = rooms.filter((room) => room.layer === layer).map((room) => `    ${id(room)}["${room.name}"]`)
    return [`  subgraph layer_${index}["${layer}"]`, ...inside, '  end'].join('\n')
  })
  const lines = arrows(rooms, read).map(
    ({ from, to }) => `  ${id(from)} ${from.name === BORDER ? '-.->' : '-->'} ${id(to)}`,
  )
  return ['```mermaid', 'flowchart BT', ...boxes, ...lines, '```'].join('\n')
}
