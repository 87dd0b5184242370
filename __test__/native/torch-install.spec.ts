import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { lock } from '../../src/native/lock.js'
import { type TorchInstallOptions, installLibtorch } from '../../src/native/torch-install.js'
import { TestServer, serve, sha256 } from '../server.js'

const run = promisify(execFile)
const FOLDER = await mkdtemp(join(tmpdir(), 'drcorl-torch-'))
/** Large enough to be interrupted, and not to be compressed away. */
let state = 1
const LIBRARY = Buffer.from(
  Uint8Array.from({ length: 300_000 }, () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24),
)

/** An archive laid out as the official one; the libraries are not real, as installing loads nothing. */
async function archive(
  name: string,
  kind: 'zip' | 'tar' | 'tgz',
  files: Record<string, string | Buffer>,
): Promise<string> {
  const root = await mkdtemp(join(FOLDER, 'tree-'))
  for (const [path, content] of Object.entries(files)) {
    await mkdir(join(root, path, '..'), { recursive: true })
    await writeFile(join(root, path), content)
  }
  const target = join(FOLDER, `${name}.${kind}`)
  const [top = ''] = await readdir(root)
  if (kind === 'zip') await run('python3', ['-m', 'zipfile', '-c', target, top], { cwd: root })
  else await run('tar', [kind === 'tgz' ? '-czf' : '-cf', target, top], { cwd: root })
  return target
}

const OFFICIAL = {
  'libtorch/build-version': '2.13.0+cpu\n',
  'libtorch/build-hash': 'x',
  'libtorch/include/torch.h': 'header',
  'libtorch/lib/libc10.so': 'c10',
  'libtorch/lib/libtorch_cpu.so': LIBRARY,
  'libtorch/lib/libgomp-a34b3233.so.1': 'gomp',
  'libtorch/lib/libstatic.a': 'static',
  'libtorch/share/cmake/Torch.cmake': 'cmake',
}

async function refused(t: ExecutionContext, options: TorchInstallOptions): Promise<DrcorlError> {
  return t.throwsAsync(installLibtorch({ dir: join(FOLDER, 'never'), ...options }), { instanceOf: DrcorlError })
}

test('a zip, a tar and a gzipped tar are unpacked: libraries and version, no headers, nothing static', async (t) => {
  for (const kind of ['zip', 'tar', 'tgz'] as const) {
    const from = await archive('official', kind, OFFICIAL)
    const dir = join(FOLDER, `from-${kind}`)
    const stages = new Set<string>()
    const result = await installLibtorch({ from, dir, onProgress: (stage) => stages.add(stage) })
    t.like(result, { folder: dir, status: 'installed', version: '2.13.0+cpu', cuda: false, found_by_default: false })
    t.is(result.sha256, sha256(readFileSync(from)))
    t.deepEqual((await readdir(dir)).toSorted(), ['build-version', 'drcorl-libtorch.json', 'lib'])
    t.deepEqual((await readdir(join(dir, 'lib'))).toSorted(), ['libc10.so', 'libgomp-a34b3233.so.1', 'libtorch_cpu.so'])
    t.deepEqual(await readFile(join(dir, 'lib/libtorch_cpu.so')), LIBRARY)
    // Run again it only looks; it is replaced on request.
    t.like(await installLibtorch({ from, dir }), { status: 'present', version: '2.13.0+cpu', sha256: result.sha256 })
    t.like(await installLibtorch({ from, dir, overwrite: true }), { status: 'installed' })
    t.regex((await refused(t, { from, dir, cuda: 'cu130' })).message, /without CUDA/)
  }
  t.deepEqual(
    (await readdir(FOLDER)).filter((name) => /^from-.*\.(partial|lock|old|fetched)$/.test(name)),
    [],
  )
})

test('archives that are none, hold no libtorch, another version, or reach outside are refused, and nothing is left', async (t) => {
  const text = join(FOLDER, 'text.zip')
  await writeFile(text, 'PK\u0003\u0004 is how it starts')
  const whole = await archive('whole', 'zip', OFFICIAL)
  const cut = join(FOLDER, 'cut.zip')
  await writeFile(cut, (await readFile(whole)).subarray(0, 200_000))
  const outside = join(FOLDER, 'outside.zip')
  const script = `import zipfile; z = zipfile.ZipFile(${JSON.stringify(outside)}, "w"); [z.writestr(n, "x") for n in ("libtorch/build-version", "libtorch/lib/../../../evil.so")]; z.close()`
  await run('python3', ['-c', script])
  const old = await archive('old', 'zip', { ...OFFICIAL, 'libtorch/build-version': '2.12.0+cpu' })
  const empty = await archive('empty', 'tar', { 'other/readme': 'x' })
  const cases: [from: string, message: RegExp][] = [
    [text, /no zip or tar archive, or a damaged one/],
    [cut, /no zip or tar archive, or a damaged one/],
    [outside, /entry outside its folder/],
    [old, /old\.zip is libtorch 2\.12\.0\+cpu, and this drcorl needs 2\.13/],
    [empty, /holds no build-version, so it is no libtorch/],
  ]
  for (const [from, message] of cases) {
    const error = await refused(t, { from })
    t.like(error, { code: 'Data', exitStatus: 2 })
    t.regex(error.message, message)
  }
  t.regex((await refused(t, { from: whole, cuda: 'cu130' })).message, /holds no CUDA libraries/)
  t.regex((await refused(t, { from: whole, sha256: '0'.repeat(64) })).message, /has sha256 .* not 0{64}/)
  t.like(await refused(t, { from: join(FOLDER, 'absent.zip') }), { code: 'Io', exitStatus: 2 })
  t.deepEqual(
    (await readdir(FOLDER)).filter((name) => name.startsWith('never') || name === 'evil.so'),
    [],
  )
})

test('an address needs a checksum, a checksum an archive, and a build must be one there is', async (t) => {
  const unchecked = await refused(t, { from: 'https://example.org/libtorch.zip' })
  t.like(unchecked, { code: 'Usage', exitStatus: 2 })
  t.regex(unchecked.message, /needs --sha256/)
  t.regex((await refused(t, { sha256: 'abc', from: 'https://example.org/x.zip' })).message, /64 hexadecimal digits/)
  for (const cuda of ['cu999', 'constructor', '__proto__']) {
    const unknown = await refused(t, { cuda })
    t.true(unknown.message.includes(`has no build "${cuda}"`), unknown.message)
    t.regex(unknown.message, /cpu, cu130/)
  }
  t.regex((await refused(t, { sha256: 'a'.repeat(64) })).message, /needs --from/)
})

test('a download that breaks goes on where it was, is checked, and leaves only the folder', async (t) => {
  const bytes = await readFile(await archive('served', 'zip', OFFICIAL))
  const server = await TestServer.start((request, response, attempt) =>
    serve(request, response, bytes, attempt === 1 ? { breakAfter: 100_000 } : {}),
  )
  t.teardown(() => server.stop())
  const place = await mkdtemp(join(FOLDER, 'served-'))
  const dir = join(place, 'libtorch')
  const notes: string[] = []
  const result = await installLibtorch({
    from: server.url,
    sha256: sha256(bytes),
    dir,
    onProgress: (_, done) => server.clientHas(done),
    onRetry: (note) => notes.push(note),
  })
  t.like(result, { status: 'installed', from: server.url, sha256: sha256(bytes) })
  t.is(notes.length, 1)
  t.regex(server.requests[1]?.range ?? '', /^bytes=\d{2,}-$/)
  t.deepEqual(await readdir(place), ['libtorch'])

  const wrong = await refused(t, { from: server.url, sha256: '1'.repeat(64), dir: join(place, 'other') })
  t.like(wrong, { code: 'Data' })
  t.deepEqual(await readdir(place), ['libtorch'])
})

test('two installations do not meet, and an abort leaves nothing half', async (t) => {
  const from = await archive('busy', 'zip', OFFICIAL)
  const place = await mkdtemp(join(FOLDER, 'busy-'))
  const dir = join(place, 'libtorch')
  const unlock = await lock(`${dir}.lock`, 'installing')
  t.like(await refused(t, { from, dir }), { code: 'Busy', exitStatus: 1 })
  unlock()
  await writeFile(`${dir}.lock`, '4194305')
  const controller = new AbortController()
  controller.abort()
  t.like(await refused(t, { from, dir, signal: controller.signal }), { code: 'Cancelled', exitStatus: 130 })
  t.deepEqual(await readdir(place), [])
})
