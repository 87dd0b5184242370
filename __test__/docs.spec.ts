/** The documentation keeps to the code: its commands parse, its links lead somewhere, its generated parts are fresh. */
import { readFile, readdir } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { parseFlag, resolveConfig } from '../src/config/load.js'
import { loadSchema, parametersFor } from '../src/config/schema.js'
import { RUN_FILES } from '../src/train/run-folder.js'
import { normaliseFlags } from '../src/cli/parameters.js'
import { inProcess, run } from './cli/spawn.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const schema = loadSchema()

const found = await readdir(join(ROOT, 'docs'), { recursive: true })
const PAGES = ['README.md', 'CHANGELOG.md', ...found.filter((name) => name.endsWith('.md')).map((n) => join('docs', n))]
const texts = new Map<string, string>()
for (const page of PAGES) texts.set(page, await readFile(join(ROOT, page), 'utf8'))

/** Lines of shell blocks; indented and inline code is prose. */
function shellLines(text: string): string[] {
  return [...text.matchAll(/^```(?:sh|bash|console)\n([^]*?)^```/gm)].flatMap((block) =>
    (block[1] ?? '')
      .split('\n')
      .map((line) => line.replace(/^\$ /, '').trim())
      .filter(Boolean),
  )
}

/** Commands in shell blocks, and those in prose that name one: `npx drcorl list`. */
function commands(text: string, program: RegExp): string[] {
  const inline = [...text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '')
  return [...shellLines(text), ...inline].filter((line) => program.test(line))
}

/** The text without its code, where brackets are no links and # is no heading. */
const prose = (text: string): string => text.replace(/^```[^]*?^```/gm, '').replace(/`[^`\n]*`/g, '')

/** A heading's anchor, as GitHub makes it. */
const anchor = (heading: string): string =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '')
    .trim()
    .replace(/ /g, '-')

const anchorsOf = (text: string): Set<string> =>
  new Set(
    [...text.replace(/^```[^]*?^```/gm, '').matchAll(/^#+ (.+)$/gm)].map((match) =>
      anchor((match[1] ?? '').replace(/`/g, '')),
    ),
  )

interface Flag {
  name: string
  value: string | undefined
}

/** `--name value`, `--name=value` and bare `--name`, in the spelling the help has. */
function flagsOf(words: readonly string[]): Flag[] {
  return words.flatMap((word, index) => {
    if (!word.startsWith('--')) return []
    const [name = '', inline] = word.slice(2).split('=')
    const next = words[index + 1]
    return [{ name, value: inline ?? (next?.startsWith('--') ? undefined : next) }]
  })
}

test('every drcorl command of the documentation is one the command line knows, flags and values included', async (t) => {
  let checked = 0
  for (const [page, text] of texts) {
    for (const line of commands(text, /^(npx )?drcorl /)) {
      const [command = '', ...rest] = line.replace(/^(npx )?drcorl /, '').split(/\s+/)
      const words = command === 'train' || command === 'certify' ? normaliseFlags(rest, schema) : rest
      const flags = flagsOf(words)
      const valueOf = (name: string): string | undefined => flags.find((flag) => flag.name === name)?.value
      if (command.startsWith('-')) {
        t.is((await inProcess(command)).status, 0, `${page}: ${line}`)
        continue
      }
      const algorithm = valueOf('algorithm') ?? 'drcorl'
      const asked = command === 'train' ? ['--algorithm', algorithm] : []
      const { status, stdout } = await inProcess(command, '--help', ...asked)
      t.is(status, 0, `${page}: ${line}`)
      for (const { name } of flags) {
        const known = new RegExp(`^ +--${name.replace(/^no-/, '')} `, 'm')
        t.regex(stdout, known, `${page}: "${line}" has --${name}`)
      }
      if (command === 'train') checkValues(flags, algorithm, valueOf('preset'))
      checked += 1
    }
  }
  t.true(checked > 20, `only ${checked} commands were found: the search is broken`)

  function checkValues(flags: readonly Flag[], algorithm: string, preset: string | undefined): void {
    const known = new Map(parametersFor(schema, algorithm).map((parameter) => [parameter.name, parameter]))
    const values = flags.flatMap(({ name, value }): [string, unknown][] => {
      const parameter = known.get(name)
      return parameter === undefined || value === undefined ? [] : [[name, parseFlag(value, parameter)]]
    })
    t.notThrows(() => resolveConfig({ schema, algorithm, preset, flags: Object.fromEntries(values) }))
  }
})

test('positional words of documented commands are among those the command accepts', async (t) => {
  const words = (what: RegExp): string[] =>
    [...texts.values()].flatMap((text) => commands(text, what)).map((line) => what.exec(line)?.[1] ?? '')
  const lists = words(/^npx drcorl list (\w+)$/)
  t.true(lists.length > 0)
  for (const what of lists) t.is((await inProcess('list', what)).status, 0, what)
  const actions = words(/^npx drcorl data (\w+)/)
  t.true(actions.length > 0)
  const help = (await inProcess('data', '--help')).stdout
  for (const action of actions) t.true(help.includes(`data ${action} `), action)
})

test('every npm script the documentation names exists', async (t) => {
  const { scripts } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as { scripts: object }
  const names = [...texts.values()].flatMap((text) => commands(text, /^npm (run |test)/))
  t.true(names.length > 0)
  for (const line of names) t.true((/^npm (?:run )?([\w:-]+)/.exec(line)?.[1] ?? '') in scripts, line)
})

test('every internal link leads to a file and, where it names one, a heading', async (t) => {
  for (const [page, text] of texts) {
    for (const [link, target = ''] of prose(text).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [path = '', heading] = target.split('#')
      const file = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path))
      const content = await readFile(join(ROOT, file), 'utf8').catch(() => undefined)
      t.not(content, undefined, `${page}: ${link}: there is no ${file}`)
      if (heading !== undefined && content !== undefined) {
        t.true(anchorsOf(content).has(heading), `${page}: ${link}: ${file} has no such heading`)
      }
    }
  }
})

test('parameter tables and embedded files are what their sources say', async (t) => {
  const { status, stdout, stderr } = await run(process.execPath, ['scripts/docs.mjs', '--check'])
  t.is(status, 0, `${stdout}${stderr}`)
})

test('the README names every file of a run folder, and every algorithm has a page with its parameters', (t) => {
  const readme = texts.get('README.md') ?? ''
  for (const file of Object.values(RUN_FILES)) t.true(readme.includes(`\`${file}\``), file)
  const pages = [...texts].filter(([page]) => page.startsWith(join('docs', 'algorithms'))).map(([, text]) => text)
  for (const name of Object.keys(schema.algorithms)) {
    t.true(
      pages.some((text) => text.includes(`\`${name}\``) || text.includes(`generated: parameters ${name} `)),
      name,
    )
  }
})

test('the table of error codes is that of the code', async (t) => {
  const source = await readFile(join(ROOT, 'src/base/errors.ts'), 'utf8')
  const union = /export type ErrorCode =([^]*?)\n\n/.exec(source)?.[1] ?? ''
  const codes = [...union.matchAll(/'(\w+)'/g)].map((match) => match[1] ?? '')
  t.true(codes.length > 5)
  const section = /^## Error codes\n([^]*?)(?:^## |$(?![^]))/m.exec(texts.get(join('docs', 'cli.md')) ?? '')?.[1] ?? ''
  const documented = [...section.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] ?? '')
  t.deepEqual(documented.toSorted(), codes.toSorted())
})

/** Promises of a page with the tests that hold them: `` `file`: "title", "title"; `file`: .. ``. */
function promises(text: string): { promise: string; tests: { file: string; title: string }[] }[] {
  const tables = [...text.matchAll(/^\| promise \| held by \|\n\|---\|---\|\n((?:\|.*\n)+)/gm)]
  const rows = tables.flatMap(([, body = '']) => body.trimEnd().split('\n'))
  return rows.map((row) => {
    const [, promise = '', holders = ''] = /^\| (.*) \| (.*) \|$/.exec(row) ?? []
    const tests = holders.split('; `').flatMap((part) => {
      const [, file, titles] = /^`?([\w./-]+)`: ("[^"]+"(?:, "[^"]+")*)$/.exec(part) ?? []
      return [...(titles ?? '').matchAll(/"([^"]+)"/g)].map(([, title = '']) => ({ file: file!, title }))
    })
    return { promise, tests }
  })
}

test('every promise of the page on reliability names the tests that hold it, and they are there', async (t) => {
  const all = promises(texts.get(join('docs', 'reliability.md')) ?? '')
  t.true(all.length > 40, `only ${all.length} promises were found: the search is broken`)
  for (const { promise, tests } of all) {
    t.true(tests.length > 0, `no test is named as \`file\`: "title" for: ${promise}`)
    for (const { file, title } of tests) {
      const source = await readFile(join(ROOT, file), 'utf8').catch(() => '')
      const words = title.split('..').map((part) => part.trim().replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      const declared = file.endsWith('.rs')
        ? new RegExp(`#\\[test\\]\\s+fn ${words[0]}\\(`)
        : new RegExp(`['"\`]${words.join('[^\\n]*')}['"\`]`)
      t.true(declared.test(source), `${file} has no test "${title}", which is said to hold: ${promise}`)
    }
  }
})

test('every way to bundle that the documentation tells is tried by the script', async (t) => {
  const section = /^## Bundlers and Jest\n([^]*?)^`node /m.exec(texts.get(join('docs', 'install.md')) ?? '')?.[1] ?? ''
  const told = [...section.matchAll(/^\| ([^|]+) \| /gm)].map(([, tool = '']) => tool).filter((tool) => tool !== 'tool')
  t.true(told.length > 5)
  const script = await readFile(join(ROOT, 'scripts/bundlers.mjs'), 'utf8')
  const ways = /^const WAYS = \{\n([^]*?)^\}/m.exec(script)?.[1] ?? ''
  const tried = [...ways.matchAll(/^ {2}'?([^':\n]+)'?: \[/gm)].map(([, way = '']) => way)
  const named = told.flatMap((tool) => (tool === 'esbuild, esm and cjs' ? ['esbuild, esm', 'esbuild, cjs'] : [tool]))
  t.deepEqual(tried, ['plain Node', ...named])
})

test('the page of results names every estimate that was below the truth', (t) => {
  const text = texts.get(join('docs', 'results', 'bullet.md')) ?? ''
  const rows = [...text.matchAll(/^\| \w+ \| ([^|]+) \| \d+ \| \d+ \| [^|]+ \| ([\d.]+) \([\d.]+\) \| ([\d.]+) \|/gm)]
  t.true(rows.length > 20, `only ${rows.length} runs were found`)
  const below = rows.filter(([, , estimate, cost]) => Number(estimate) < Number(cost))
  const told = /Two estimates of BC-Safe are below the truth: [^]*?\n\n/.exec(text)?.[0] ?? ''
  t.deepEqual(
    below.map(([, algorithm]) => algorithm),
    ['BC-Safe', 'BC-Safe'],
  )
  for (const [, , estimate, cost] of below) t.true(told.includes(`${estimate} for ${cost}`), `${estimate} for ${cost}`)
})
