/** The import rule: rooms import only from rooms above them in the table of docs/architecture.md. */
import { readFile, readdir } from 'node:fs/promises'
import test from 'ava'
import ts from 'typescript'
import { loadSchema } from '../src/config/schema.js'

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

/** What the product is called, and one of its algorithms. */
const PRODUCT = 'drcorl'

/** The names among those of algorithms that stand in code or text, comments left out; `BcqLag` is `bcq_lag`. */
function algorithmsIn(text: string, names: readonly string[]): string[] {
  const code = text.replaceAll(/^\s*(?:\/\/|\*|\/\*|#).*$/gm, '')
  return names.filter((name) => {
    // The product's own name says nothing, but where it is chosen from algorithms.
    if (name === PRODUCT) {
      return new RegExp(`algorithm(?:[^\\n]*\\n){0,2}[^\\n]*['"]${name}['"]|::${name}\\b`, 'i').test(code)
    }
    const pascal = name.replaceAll(/(?:^|_)(\w)/g, (_, letter: string) => letter.toUpperCase())
    return new RegExp(`(?<![\\w.-])${name}(?![\\w-])|\\b${pascal}(?![a-z])`).test(code)
  })
}

test('a name of an algorithm is found as a word, a type and a text, and not inside of others', (t) => {
  const names = ['bc', 'bcq_lag', PRODUCT]
  const found = (text: string): string[] => algorithmsIn(text, names)
  t.deepEqual(found(`const a = 'bc'`), ['bc'])
  t.deepEqual(found('use drcorl_algos::bcq_lag::{BcqLagConfig};'), ['bcq_lag'])
  t.deepEqual(found('let x: BcqLagConfig;'), ['bcq_lag'])
  t.deepEqual(found(`export const DEFAULT_ALGORITHM = 'drcorl'`), [PRODUCT])
  t.deepEqual(found(`// bc\nimport { DrcorlError } from 'drcorl'\nconst abc = bcd + 'a-bc'`), [])
})

test('no room but those that the page excepts names an algorithm, and each of these does', async (t) => {
  const names = Object.keys(loadSchema().algorithms)
  t.true(names.includes(PRODUCT) && names.length > 7)
  const page = await readFile(new URL('../docs/architecture.md', import.meta.url), 'utf8')
  const sentence = /no crate and no TypeScript room outside\s+([^]*?)\. A test/.exec(page)?.[1] ?? ''
  const allowed = [...sentence.matchAll(/`((?:crates|src)\/[\w./]+)`/g)].map(([, path]) => path!)
  t.true(allowed.length > 2, `${sentence} names no exceptions`)
  const naming = new Set<string>()
  for (const top of ['crates', 'src']) {
    const entries = await readdir(new URL(`../${top}`, import.meta.url), { recursive: true })
    for (const entry of entries.map((name) => `${top}/${name.replaceAll('\\', '/')}`)) {
      // Tests take any algorithm as an example.
      if (!/\.(rs|ts|py)$/.test(entry) || /\/tests?[/.]|_test\./.test(entry)) continue
      const found = algorithmsIn(await readFile(new URL(`../${entry}`, import.meta.url), 'utf8'), names)
      if (found.length === 0) continue
      const exception = allowed.find((path) => entry === path || entry.startsWith(`${path}/`))
      if (exception === undefined) t.fail(`${entry} names ${found.join(', ')}: only ${allowed.join(', ')} may`)
      else naming.add(exception)
    }
  }
  t.deepEqual([...naming].toSorted(), allowed.toSorted(), 'an exception that names none is none')
})
