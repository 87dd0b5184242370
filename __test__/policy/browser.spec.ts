/**
 * `drcorl/policy` outside Node: its modules import nothing but each other, and run where Node's own names are missing.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import ts from 'typescript'
import { loadPolicy } from '../../src/policy/node.js'
import { writeSafetensors } from '../../src/policy/safetensors.js'
import { testIf } from '../test-if.js'
import { drawObservations, drawPolicy, largestDifference } from './files.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const ENTRY = join(ROOT, 'src/policy/browser.ts')
const CHROMIUM = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((p) => existsSync(p))

/** The JavaScript of the entry and of everything it imports, by path below src. */
async function modules(): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const queue = [ENTRY]
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    const name = relative(join(ROOT, 'src'), path).replace(/\.ts$/, '.js')
    if (name in found) continue
    const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext, verbatimModuleSyntax: true }
    const { outputText } = ts.transpileModule(await readFile(path, 'utf8'), { compilerOptions: options })
    found[name] = outputText
    for (const { fileName } of ts.preProcessFile(outputText, true, true).importedFiles) {
      if (!fileName.startsWith('.')) throw new Error(`${name} imports ${fileName}, which a browser does not have`)
      queue.push(resolve(dirname(path), fileName.replace(/\.js$/, '.ts')))
    }
  }
  return found
}

const content = drawPolicy({ widths: [4, 32, 32, 2], condition: 10 })
const observations = drawObservations(content, 20)
const folder = await mkdtemp(join(tmpdir(), 'drcorl-browser-'))
const file = join(folder, 'policy.safetensors')
await writeFile(file, writeSafetensors(content))
const wanted = (await loadPolicy(file, { cost_limit: 5 })).act(observations)

/** What both realms run; `source` is an expression for `loadPolicy`'s first argument. */
const program = (entry: string, source: string): string => `
  import { DrcorlError, loadPolicy } from '${entry}'
  const policy = await loadPolicy(${source}, { cost_limit: 5 })
  const actions = [...policy.act(${JSON.stringify([...observations])})]
  const refused = await loadPolicy(new Uint8Array(3)).catch((error) => error instanceof DrcorlError && error.code)
  const node = ['process', 'Buffer', 'require'].filter((name) => name in globalThis)
  globalThis.answer = JSON.stringify({ name: policy.name, actions, refused, node })`

interface Answer {
  name: string
  actions: number[]
  refused: string
  node: string[]
}

test('the package export outside Node is the entry tested here', async (t) => {
  const { exports } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, Record<string, string>>
  }
  t.is(exports['./policy']?.['default'], './dist/policy/browser.js')
  t.is(exports['./policy']?.['node'], './dist/policy/node.js')
})

test('the modules of the browser entry are few and small', async (t) => {
  const found = await modules()
  t.deepEqual(Object.keys(found).toSorted(), [
    'base/errors.js',
    'base/own.js',
    'policy/browser.js',
    'policy/mixture.js',
    'policy/mlp.js',
    'policy/player.js',
    'policy/safetensors.js',
  ])
  const size = Object.values(found).reduce((sum, code) => sum + code.length, 0)
  t.true(size < 40_000, `${size} characters`)
})

test('it plays a policy in a realm without Node', async (t) => {
  const input = JSON.stringify({
    modules: { ...(await modules()), 'main.js': program('policy/browser.js', 'new Uint8Array(fileBytes)') },
    globals: { fileBytes: [...writeSafetensors(content)] },
  })
  const realm = fileURLToPath(new URL('realm.mjs', import.meta.url))
  const child = spawnSync(process.execPath, ['--experimental-vm-modules', '--no-warnings', realm], {
    input,
    encoding: 'utf8',
  })
  t.is(child.status, 0, child.stderr)
  const answer = JSON.parse(child.stdout) as Answer
  t.deepEqual(answer.node, [])
  t.is(answer.refused, 'Data')
  t.true(largestDifference(Float32Array.from(answer.actions), wanted, content) <= 1e-6)
})

const inBrowser = testIf(CHROMIUM !== undefined, 'no Chromium on this machine')

inBrowser('it fetches and plays a policy in a browser', async (t) => {
  const page = `<body><script type="module">${program('/policy/browser.js', "'/policy.safetensors?v=1'")}
    document.body.textContent = globalThis.answer</script>`
  const files = new Map<string, [type: string, body: string | Uint8Array]>([
    ['/', ['text/html', page]],
    ['/policy.safetensors', ['application/octet-stream', writeSafetensors(content)]],
  ])
  for (const [name, code] of Object.entries(await modules())) files.set(`/${name}`, ['text/javascript', code])
  const server = createServer((request, response) => {
    const [type, body] = files.get(request.url!.replace(/\?.*/, '')) ?? ['text/plain', '']
    response.writeHead(body === '' ? 404 : 200, { 'content-type': type }).end(body)
  })
  await new Promise<void>((ready) => void server.listen(0, '127.0.0.1', ready))
  try {
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    const dom = await dumpDom(address)
    const text = /<body>(\{.*\})<\/body>/s.exec(dom)?.[1]
    if (text === undefined) return t.fail(dom)
    const answer = JSON.parse(text.replaceAll('&quot;', '"')) as Answer
    t.is(answer.name, 'policy.safetensors')
    t.is(answer.refused, 'Data')
    t.true(largestDifference(Float32Array.from(answer.actions), wanted, content) <= 1e-6)
  } finally {
    server.close()
  }
})

/** The page after its scripts have run. Asynchronous: the server it loads from is in this process. */
async function dumpDom(address: string): Promise<string> {
  const { execFile } = await import('node:child_process')
  const profile = `--user-data-dir=${join(folder, 'chromium')}`
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--virtual-time-budget=20000', profile, '--dump-dom']
  return new Promise((done, failed) => {
    execFile(CHROMIUM!, [...flags, address], { timeout: 120_000 }, (error, stdout) =>
      error === null ? done(stdout) : failed(error),
    )
  })
}
