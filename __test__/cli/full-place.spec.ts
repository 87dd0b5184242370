/** A place with no space left: every command that writes says so, and leaves nothing that is half written. */
import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { writeSafetensors } from '../../src/policy/safetensors.js'
import { drawPolicy } from '../policy/files.js'
import { smallFlags } from '../small.js'
import { writeRun } from '../report/fixture.js'
import { serialIf } from '../test-if.js'
import { inProcess } from './spawn.js'

const source = await mkdtemp(join(tmpdir(), 'drcorl-source-'))
const place = await mkdtemp(join(tmpdir(), 'drcorl-full-'))
const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', place]).status === 0
const full = serialIf(mounted, 'only root can mount a small place')

test.before(async () => {
  await writeFile(join(source, 'policy.safetensors'), writeSafetensors(drawPolicy({ widths: [8, 100, 100, 2] })))
  await writeRun(join(source, 'run'), { evaluated: false })
  // Folders and small files fit, and no more.
  if (mounted) await writeFile(join(place, 'filler'), Buffer.alloc(50_000))
})
test.after.always(() => void spawnSync('umount', [place]))

const data = 'env:point-circle?episodes=5'
const small = ['--algorithm', 'bc', ...smallFlags('bc', { cost_limit: 10, audit_members: 0, fqe_steps: 0 })]
const LINES: [what: string, args: string[]][] = [
  ['convert', ['data', 'convert', data, join(place, 'data.hdf5')]],
  ['export', ['export', join(source, 'policy.safetensors'), '--format', 'onnx', '--out', join(place, 'policy.onnx')]],
  [
    'export of a folder',
    ['export', join(source, 'policy.safetensors'), '--format', 'tfjs', '--out', join(place, 'js')],
  ],
  ['report', ['report', join(source, 'run'), '--out', join(place, 'report.html')]],
]

for (const [what, args] of LINES) {
  full(`${what}: code Io, the place, and nothing left there`, async (t) => {
    const { status, stdout } = await inProcess(...args, '--json')
    t.not(status, 0, stdout)
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
    t.is(error.code, 'Io')
    t.true(error.message.includes(args.at(-1)!), error.message)
    t.regex(error.message, /no space left on (the )?device/i)
    t.deepEqual(await readdir(place), ['filler'])
  })
}

full('train: code Io and the file that did not fit; what was written before it is whole', async (t) => {
  const run = join(place, 'run')
  const { status, stdout } = await inProcess('train', '--dataset', data, ...small, '--out', run, '--json')
  t.not(status, 0)
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
  t.is(error.code, 'Io')
  t.regex(error.message, /no space left on (the )?device/i)
  t.true(error.message.includes(run), error.message)
  t.deepEqual(
    (await readdir(run)).filter((name) => name.startsWith('.') || name.includes('.tmp')),
    [],
  )
})
