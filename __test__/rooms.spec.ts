/** The import rule: rooms import only from rooms above them in the table of docs/architecture.md. */
import { readFile } from 'node:fs/promises'
import test from 'ava'
import ts from 'typescript'

interface Room {
  name: string
  layer: string
}

interface Import {
  file: string
  from: string
  names: string
}

interface House {
  sources: string[]
  imports: Import[]
}

interface Rooms {
  RULE: string
  readRooms(page?: string): Room[]
  readImports(): House
  importsOf(file: string, text?: string): Import[]
  violations(rooms: Room[], house: House): string[]
  arrows(rooms: Room[], house: House): { from: Room; to: Room }[]
}

const script = new URL('../scripts/lib/rooms.mjs', import.meta.url)
const { RULE, readRooms, readImports, importsOf, violations, arrows } = (await import(script.href)) as Rooms

const TABLE = `## Rooms

| layer | room | what it holds |
|---|---|---|
| Rust | \`crates/core\` | learning |
| border | \`index.d.ts\` | types |
| base | \`src/base\` | errors |
| policies | \`src/native\` | addons |
| | \`src/policy\` | policies |
| doors | \`src/index.ts\` | the API |

## Next
`

const rooms = readRooms(TABLE)

/** A house with these lines, each `FILE NAMES`, and something in every room. */
function house(...lines: string[]): House {
  const imports = lines.map((line) => {
    const [file = '', names = ''] = line.split(' ')
    return { file, from: file.replace(/\/Cargo\.toml$/, ''), names }
  })
  const sources = ['crates/core', 'index.d.ts', 'src/base/a.ts', 'src/native/a.ts', 'src/policy/a.ts', 'src/index.ts']
  return { sources, imports }
}

test('every import of the house goes upwards', (t) => {
  const read = readImports()
  t.true(read.imports.length > 200, `only ${read.imports.length} imports were found: the search is broken`)
  t.deepEqual(violations(readRooms(), read), [])
})

/** What is loaded with a file of src: all it imports but types, which leave no trace in JavaScript. */
async function loadedWith(file: string, seen = new Set<string>()): Promise<Set<string>> {
  if (seen.has(file)) return seen
  seen.add(file)
  const text = await readFile(new URL(`../${file}`, import.meta.url), 'utf8')
  const compilerOptions = { verbatimModuleSyntax: true, module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
  const { outputText } = ts.transpileModule(text, { compilerOptions })
  for (const { names } of importsOf(file, outputText)) await loadedWith(names, seen)
  return seen
}

test('a report loads neither addon nor environment', async (t) => {
  const loaded = [...(await loadedWith('src/report/report.ts'))]
  t.true(loaded.includes('src/train/run-folder.ts'), 'what a report is made of was not followed')
  t.deepEqual(
    loaded.filter((file) => /^src\/(native|envs)\//.test(file)),
    [],
  )
})

test('the table is read as rooms in their order, each with its layer', (t) => {
  t.deepEqual(
    rooms.map(({ name, layer }) => `${layer}: ${name}`),
    [
      'Rust: crates/core',
      'border: index.d.ts',
      'base: src/base',
      'policies: src/native',
      'policies: src/policy',
      'doors: src/index.ts',
    ],
  )
  t.throws(() => readRooms('# Architecture\n'), { message: /no table of rooms/ })
})

test('a violation names the file, the import and the rule', (t) => {
  t.deepEqual(violations(rooms, house('src/policy/a.ts src/native/b.ts', 'src/policy/a.ts src/policy/b.ts')), [])
  t.deepEqual(violations(rooms, house('src/base/a.ts src/native/b.ts')), [
    `src/base/a.ts imports src/native/b.ts: src/native stands below src/base, and ${RULE}`,
  ])
  t.deepEqual(violations(rooms, house('crates/core/Cargo.toml src/base')), [
    `crates/core/Cargo.toml imports src/base: src/base stands below crates/core, and ${RULE}`,
  ])
  const [stray] = violations(rooms, house('src/policy/a.ts scripts/lib/run.mjs'))
  t.regex(stray ?? '', /^src\/policy\/a\.ts imports scripts\/lib\/run\.mjs, which stands in no room/)
})

test('the declarations of the addons are for src/native alone', (t) => {
  t.deepEqual(violations(rooms, house('src/native/a.ts index.d.ts')), [])
  const [around] = violations(rooms, house('src/policy/a.ts index.d.ts'))
  t.regex(around ?? '', /^src\/policy\/a\.ts imports index\.d\.ts: src\/native alone/)
})

test('a file without a room and a room without a file are found', (t) => {
  const all = house()
  const loose = { ...all, sources: [...all.sources, 'src/loose.ts', 'src/policyholder/a.ts'] }
  t.deepEqual(
    violations(rooms, loose).map((text) => text.split(' ')[0]),
    ['src/loose.ts', 'src/policyholder/a.ts'],
  )
  const empty = { ...all, sources: all.sources.filter((name) => !name.startsWith('src/policy')) }
  t.regex(violations(rooms, empty).join('\n'), /^src\/policy has a row .* there is no such crate, folder or file$/)
})

test('imports are found in every form, and only those inside the repository', (t) => {
  const text = `/** import x from './comment.js' */
import { readFile } from 'node:fs/promises'
import type { A } from '../../index.d.ts'
import './effect.js'
export * from './all.js'
export type { B } from './type.js'
type C = import('./inline.js').C
const lazy = await import('./lazy.js')
const text = "import y from './text.js'"
`
  const names = importsOf('src/policy/a.ts', text).map((one) => one.names)
  t.deepEqual(names, ['index.d.ts', ...['effect', 'all', 'type', 'inline', 'lazy'].map((n) => `src/policy/${n}.ts`)])
})

test('an arrow that others imply is left out of the picture', (t) => {
  const lines = ['src/policy/a.ts src/native/a.ts', 'src/policy/a.ts src/base/a.ts', 'src/native/a.ts src/base/a.ts']
  t.deepEqual(
    arrows(rooms, house(...lines, 'src/index.ts src/base/a.ts', 'src/index.ts src/policy/a.ts')).map(
      ({ from, to }) => `${from.name} -> ${to.name}`,
    ),
    ['src/native -> src/base', 'src/policy -> src/native', 'src/index.ts -> src/policy'],
  )
})
