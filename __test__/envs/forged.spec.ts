/** A process that answers something else than the bridge: one error, never an exception that nobody can catch. */
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import type { DrcorlError } from '../../src/base/errors.js'
import { findEnvironment } from '../../src/data/environments.js'
import { serialIf } from '../test-if.js'

const FORGED = fileURLToPath(new URL('forged.mjs', import.meta.url))
type Reply = [kind: number, body: string] | string

const HELLO: Reply = [0, '{"protocol": 3, "python": "3.11.7"}']
const specification = { obs_dim: 2, act_dim: 1, action_low: [-1], action_high: [1], max_episode_steps: 10 }
const opened = (change: object = {}): Reply => [0, JSON.stringify({ ...specification, ...change })]

async function open(replies: Reply[]): Promise<DrcorlError | undefined> {
  process.env['FORGED'] = JSON.stringify(replies)
  try {
    const env = await findEnvironment('forged:Walk-v0', { python: FORGED, workers: 1, timeout: 10 }).make(1)
    try {
      await env.reset([0])
      return undefined
    } finally {
      await env.close?.()
    }
  } catch (error) {
    return error as DrcorlError
  }
}

const PROTOCOL = /its process broke the protocol/
const CASES: [what: string, replies: Reply[], message: RegExp][] = [
  ['a failure that is no JSON', [HELLO, opened(), [1, '{"kind": ']], PROTOCOL],
  ['a failure that is null', [HELLO, opened(), [1, 'null']], PROTOCOL],
  ['a failure that is a number', [HELLO, opened(), [1, '7']], PROTOCOL],
  ['a failure without a message', [HELLO, opened(), [1, '{"kind": "value"}']], PROTOCOL],
  ['a failure of an unknown kind', [HELLO, opened(), [1, '{"kind": "start", "message": "x", "trace": []}']], PROTOCOL],
  ['a failure without a trace', [HELLO, opened(), [1, '{"kind": "value", "message": "reward 7"}']], /gave reward 7$/],
  [
    'a trace that is no list',
    [HELLO, opened(), [1, '{"kind": "value", "message": "reward 7", "trace": {}}']],
    /reward 7$/,
  ],
  [
    'a trace of numbers',
    [HELLO, opened(), [1, '{"kind": "exception", "message": "E: x", "trace": [1]}']],
    /raised E: x$/,
  ],
  ['a row that is no number', [HELLO, opened(), [1, '{"kind": "value", "message": "x", "row": "2"}']], /gave x$/],
  ['a reply of no kind', [HELLO, opened(), [7, '']], PROTOCOL],
  [
    'a reply of another size',
    [HELLO, opened(), [0, 'abc']],
    /its process broke the protocol: .*3 bytes where 8 were due/,
  ],
  ['two replies at once', [HELLO, opened(), '0000000000000000'.repeat(2)], PROTOCOL],
  ['a greeting that is no JSON', [[0, 'hello']], PROTOCOL],
  ['a greeting that is null', [[0, 'null']], PROTOCOL],
  ['a greeting of another version', [[0, '{"protocol": 9}']], /speaks protocol 9/],
  ['a greeting that failed', [[1, 'null']], PROTOCOL],
  ['text instead of frames', ['68656c6c6f20776f726c64'], PROTOCOL],
  ['a specification that is no JSON', [HELLO, [0, 'Infinity']], PROTOCOL],
  ['a specification that is null', [HELLO, [0, 'null']], PROTOCOL],
  ['a specification without sizes', [HELLO, opened({ obs_dim: null })], PROTOCOL],
  ['a size below 1', [HELLO, opened({ act_dim: 0, action_low: [], action_high: [] })], PROTOCOL],
  ['a size beyond memory', [HELLO, opened({ obs_dim: 1e15 })], PROTOCOL],
  ['a box of another size', [HELLO, opened({ action_low: [-1, -1] })], PROTOCOL],
  ['a box of texts', [HELLO, opened({ action_low: ['a'] })], PROTOCOL],
]

for (const [what, replies, message] of CASES) {
  test.serial(what, async (t) => {
    const error = await open(replies)
    t.is(error?.code, 'Environment', String(error?.stack))
    t.regex(error?.message ?? '', message)
  })
}

/** True where this user may mount a file system of his own: Linux with user namespaces, or root. */
const mounts = spawnSync('unshare', ['-rm', 'true']).status === 0
const mounting = serialIf(mounts, 'no namespaces for mounts: unshare -rm')

mounting('a full place for temporary files is an error of code Io, not the end of Node', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'drcorl-full-'))
  const script = join(folder, 'full.sh')
  const code = [
    "const { findEnvironment } = await import('./src/data/environments.ts')",
    "await findEnvironment('forged:Walk-v0', { python: process.env.STANDIN, workers: 1 }).make(1)",
    "  .then(() => console.log('opened'), ({ code, message, hint }) => console.log(JSON.stringify({ code, message, hint })))",
  ].join('\n')
  writeFileSync(
    script,
    `mount -t tmpfs -o size=64k tmpfs "$TMPDIR" && { head -c 1000000 /dev/zero > "$TMPDIR/fill"; exec "$@"; }\n`,
  )
  chmodSync(script, 0o755)
  const node = [`--import=${import.meta.resolve('@oxc-node/core/register')}`, '--input-type=module', '--eval', code]
  const env = { ...process.env, TMPDIR: folder, STANDIN: FORGED, FORGED: JSON.stringify([HELLO, opened()]) }
  const args = ['-rm', 'sh', script, process.execPath, ...node]
  const { stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8', env })
  t.notThrows(() => JSON.parse(stdout), stdout + stderr)
  t.like(JSON.parse(stdout), { code: 'Io' })
  t.regex(stdout, /cannot make a temporary file .*no space left on the device/)
  t.regex(stdout, /TMPDIR/)
})
