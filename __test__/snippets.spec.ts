/**
 * Snippets of the documentation are run, not only read: TypeScript as written, at small sizes,
 * each in a folder of its own.
 */
import { mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import test from 'ava'
import { installedPython } from './envs/real.js'
import { CLI, run } from './cli/spawn.js'
import { writeSafetensors } from '../src/policy/safetensors.js'
import { drawPolicy } from './policy/files.js'
import { smallFlags } from './small.js'
import { testIf } from './test-if.js'

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
  const playable = python !== undefined || !NEEDS_ENVIRONMENTS.test(code)
  const snippet = testIf(playable, 'the environments are not installed: drcorl envs install')
  snippet(`${page}, TypeScript snippet ${index + 1}: runs as printed`, async (t) => {
    t.regex(code, /from 'drcorl'/, 'a snippet says what it imports')
    const folder = await mkdtemp(join(tmpdir(), 'drcorl-snippet-'))
    if (code.includes("'policy.safetensors'"))
      await writeFile(join(folder, 'policy.safetensors'), writeSafetensors(drawPolicy({ widths: [3, 8, 2] })))
    // Beside the tests, where the loader of TypeScript and the types of the repository hold;
    // it works in its own folder.
    const file = join(ROOT, 'target/snippets', `${page.replaceAll(/\W/g, '-')}-${index}.mts`)
    await mkdir(join(ROOT, 'target/snippets'), { recursive: true })
    await writeFile(file, code.replaceAll("from 'drcorl'", `from '${pathToFileURL(PACKAGE).href}'`))
    const { status, stdout, stderr } = await run(process.execPath, [`--import=${REGISTER}`, file], folder)
    t.is(status, 0, `${stdout}${stderr}`)
  })
}

/** Downloads, real environments, and the grids of runs and times that benchmark.spec.ts and study have in small. */
const ELSEWHERE = /^data fetch|^envs |--task |^benchmark |^study /

/** A log as a machine may have written it: 20 episodes of 30 steps, a new observation in each row. */
function logFile(): string {
  const rows = Array.from({ length: 600 }, (_, row) => {
    const [x, y] = [Math.sin(row / 7), Math.cos(row / 5)]
    return [x, y, Math.sin(row), x + y, row % 4 === 0 ? 1 : 0, 0, row % 30 === 29 ? 1 : 0].join(',')
  })
  return `${['x,y,actions,rewards,price,terminals,timeouts', ...rows].join('\n')}\n`
}

test('the commands of the README’s guide run in their order, training with few steps', async (t) => {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8')
  const block = /^## Train on your own data[^]*?^```sh\n([^]*?)^```/m.exec(readme)?.[1] ?? ''
  const commands = block.split('\n').flatMap((line) => (line.startsWith('npx drcorl ') ? [line.slice(11)] : []))
  const own = commands.filter((command) => !ELSEWHERE.test(command))
  t.true(own.length > 8, `only ${own.length} of ${commands.length} commands are run`)
  // The guide supposes a FILE.hdf5, and shows further down how to make one.
  const ordered = own.toSorted((a, b) => Number(b.startsWith('data convert')) - Number(a.startsWith('data convert')))
  const folder = await mkdtemp(join(tmpdir(), 'drcorl-guide-'))
  await writeFile(join(folder, 'log.csv'), logFile())
  const [node = '', ...words] = CLI
  for (const command of ordered) {
    const extra = command.startsWith('train ') && !command.includes('--resume') ? smallFlags('drcorl') : []
    const { status, stdout, stderr } = await run(node, [...words, ...command.split(/\s+/), ...extra], folder)
    t.is(status, 0, `drcorl ${command}\n${stdout}${stderr}`)
  }
})

test('there are snippets to run', (t) => {
  t.true(all.length >= 2)
})
