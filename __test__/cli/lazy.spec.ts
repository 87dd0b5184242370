import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'
import { smallFlags } from '../small.js'
import { CLI } from './spawn.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)
const [node = '', ...args] = CLI

interface Finished {
  status: number
  stdout: string
  stderr: string
}

async function execute(script: readonly string[], words: readonly string[], env: NodeJS.ProcessEnv): Promise<Finished> {
  const done = run(node, [...script, ...words], { cwd: ROOT, env, maxBuffer: 1 << 26 })
  return done.then(
    ({ stdout, stderr }) => ({ status: 0, stdout, stderr }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ status: code, stdout, stderr }),
  )
}

const folder = await mkdtemp(join(tmpdir(), 'drcorl-lazy-'))

/**
 * A machine without environments on which DRCORL_LIBTORCH names a folder without libtorch:
 * whoever asks for libtorch fails.
 */
const WITHOUT = {
  ...process.env,
  DRCORL_LIBTORCH: join(folder, 'no-libtorch'),
  DRCORL_ENVS: join(folder, 'no-environments'),
  XDG_CACHE_HOME: folder,
}
const drcorl = (...words: string[]): Promise<Finished> => execute(args, words, WITHOUT)

test('help, lists, reports, dataset files and refused input need no libtorch', async (t) => {
  const file = join(folder, 'data.hdf5')
  const good = [
    ['--help'],
    ['train', '--help'],
    ['list'],
    ['data', 'convert', 'env:point-circle?episodes=20', file],
    ['data', 'info', file],
    ['data', 'filter', file, join(folder, 'safe.hdf5'), '--cost-limit', '10'],
    ['info'],
  ]
  for (const words of good) t.like(await drcorl(...words), { status: 0 }, words.join(' '))
  await writeFile(join(folder, 'bad.hdf5'), 'text')
  const bad: [words: string[], message: RegExp][] = [
    [['data', 'info', join(folder, 'bad.hdf5')], /is not an HDF5 file/],
    [['train', '--dataset', join(folder, 'bad.hdf5'), '--cost-limit', '10'], /is not an HDF5 file/],
    [['train', '--dataset', file, '--cost-limit', '-1'], /cost_limit/],
    [['train', '--dataset', file, '--device', 'gpu'], /device is "gpu"/],
    [['evaluate', folder], /not a run folder/],
    [['report', folder], /not a run folder/],
  ]
  for (const [words, message] of bad) {
    const { status, stderr } = await drcorl(...words)
    t.is(status, 2, words.join(' '))
    t.regex(stderr, message)
  }
})

test('a trained policy is evaluated and reported without libtorch', async (t) => {
  const out = join(folder, 'trained')
  const words = ['train', '--dataset', 'env:point-circle?episodes=20', '--algorithm', 'bc', '--cost-limit', '10']
  const trained = await execute(args, [...words, '--out', out, ...smallFlags('bc')], process.env)
  t.is(trained.status, 0, trained.stderr)
  t.regex(trained.stderr, /device cpu \(auto: .*\)/)
  for (const after of [
    ['evaluate', out, '--episodes', '2', '--json'],
    ['report', out],
  ]) {
    const { status, stderr } = await drcorl(...after)
    t.is(status, 0, stderr)
  }
})

test('the first command that needs libtorch says what to run', async (t) => {
  const words = ['train', '--env', 'point-circle', '--cost-limit', '10', '--out', join(folder, 'run'), '--json']
  const { status, stdout } = await drcorl(...words)
  t.is(status, 1)
  const { error } = JSON.parse(stdout) as { error: Record<string, string> }
  t.like(error, { code: 'Addon' })
  t.regex(error['message'] ?? '', /there is no folder .*no-libtorch/)
  t.regex(error['hint'] ?? '', /unset DRCORL_LIBTORCH/)
  t.false((await readdir(folder)).includes('run'))
})

test('doctor tells what is missing and what to run, and ends with 1', async (t) => {
  const { status, stdout } = await drcorl('doctor', '--json')
  t.is(status, 1)
  const { checks, ready, libtorch } = JSON.parse(stdout) as {
    checks: { name: string; state: string; remedy: string | null }[]
    ready: Record<string, boolean>
    libtorch: { origin: string; chosen: boolean }[]
  }
  t.deepEqual(ready, { policies: true, training: false })
  t.like(libtorch[0], { origin: 'DRCORL_LIBTORCH', chosen: true })
  const of = (name: string) => checks.find((check) => check.name === name)
  t.like(of('runtime addon'), { state: 'ok' })
  t.like(of('libtorch'), { state: 'missing' })
  t.regex(of('libtorch')?.remedy ?? '', /unset DRCORL_LIBTORCH/)
  t.truthy(of('environments')?.remedy)
})

test('doctor, info and help work where there is no addon at all', async (t) => {
  // The sources under another root, as an npm package without its platform packages has them.
  const root = join(folder, 'bare')
  await mkdir(root)
  await cp(join(ROOT, 'src'), join(root, 'src'), { recursive: true })
  await cp(join(ROOT, 'package.json'), join(root, 'package.json'))
  await symlink(join(ROOT, 'node_modules'), join(root, 'node_modules'))
  const script = [...args.slice(0, -1), join(root, 'src/cli/main.ts')]
  const bare = (...words: string[]): Promise<Finished> =>
    execute(script, words, { PATH: process.env['PATH'], XDG_CACHE_HOME: folder, HOME: folder })
  const { status, stdout } = await bare('doctor')
  t.is(status, 1)
  t.regex(
    stdout,
    /MISSING +runtime addon .*@drcorl\/runtime-linux-x64-gnu is not installed\n +run: npm install @drcorl\/runtime/,
  )
  t.regex(stdout, /MISSING +libtorch .*\n +run: npx drcorl torch install/)
  t.regex(stdout, /training does not work/)
  t.is((await bare('info')).status, 0)
  t.is((await bare('--help')).status, 0)
  const train = await bare('train', '--env', 'point-circle', '--cost-limit', '10')
  t.is(train.status, 1)
  t.regex(
    train.stderr,
    /error: the native package @drcorl\/runtime-linux-x64-gnu is not installed\n {2}run: npm install/,
  )
})

test('doctor says what is used where all is there', async (t) => {
  const { status, stdout } = await execute(args, ['doctor', '--json'], process.env)
  t.is(status, 0)
  const { devices, libtorch, ready } = JSON.parse(stdout) as {
    devices: string[]
    libtorch: { chosen: boolean; version: string }[]
    ready: Record<string, boolean>
  }
  t.deepEqual(ready, { policies: true, training: true })
  t.is(devices[0], 'cpu')
  t.regex(libtorch.find(({ chosen }) => chosen)?.version ?? '', /^2\.13\./)
})
