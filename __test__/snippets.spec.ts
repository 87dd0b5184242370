/** Snippets of the documentation are run, not only read: TypeScript as written, at small sizes, each in a folder of its own. */
import { mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import test from 'ava'
import { installedPython } from './envs/real.js'
import { run } from './cli/spawn.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PACKAGE = fileURLToPath(new URL('small-drcorl.ts', import.meta.url))
const REGISTER = import.meta.resolve('@oxc-node/core/register')
/** What a snippet may suppose without saying so: the environments of the benchmark. */
const NEEDS_ENVIRONMENTS = /openTask\(/

const found = await readdir(join(ROOT, 'docs'), { recursive: true })
const pages = ['README.md', ...found.filter((name) => name.endsWith('.md')).map((name) => join('docs', name))]
const python = await installedPython()

/** TypeScript blocks that are not copies of an example: those are run by examples.spec.ts. */
function snippets(text: string): string[] {
  const own = text.replace(/<!-- generated: file [^]*?<!-- end generated -->/g, '')
  return [...own.matchAll(/^```ts\n([^]*?)^```/gm)].map((match) => match[1] ?? '')
}

const all: { page: string; index: number; code: string }[] = []
for (const page of pages.toSorted()) {
  const blocks = snippets(await readFile(join(ROOT, page), 'utf8'))
  all.push(...blocks.map((code, index) => ({ page, index, code })))
}

for (const { page, index, code } of all) {
  test(`${page}, TypeScript snippet ${index + 1}: runs as printed`, async (t) => {
    if (python === undefined && NEEDS_ENVIRONMENTS.test(code)) {
      t.log('SKIPPED: the environments are not installed (drcorl envs install)')
      return t.pass()
    }
    t.regex(code, /from 'drcorl'/, 'a snippet says what it imports')
    const folder = await mkdtemp(join(tmpdir(), 'drcorl-snippet-'))
    // Beside the tests, where the loader of TypeScript and the types of the repository hold; it works in its own folder.
    const file = join(ROOT, 'target/snippets', `${page.replaceAll(/\W/g, '-')}-${index}.mts`)
    await mkdir(join(ROOT, 'target/snippets'), { recursive: true })
    await writeFile(file, code.replaceAll("from 'drcorl'", `from '${pathToFileURL(PACKAGE).href}'`))
    const { status, stdout, stderr } = await run(process.execPath, [`--import=${REGISTER}`, file], folder)
    t.is(status, 0, `${stdout}${stderr}`)
  })
}

test('there are snippets to run', (t) => {
  t.true(all.length >= 2)
})
