/** A place that nobody can write, root included: what is said of it, and when. */
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { environmentSteps } from '../../src/envs/ledger.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { writeSafetensors } from '../../src/policy/safetensors.js'
import { drawPolicy } from '../policy/files.js'
import { writeRun } from '../report/fixture.js'
import { testIf } from '../test-if.js'
import { inProcess } from './spawn.js'

const source = await mkdtemp(join(tmpdir(), 'drcorl-writable-'))
const place = await mkdtemp(join(tmpdir(), 'drcorl-read-only-'))
const mount = (...args: string[]): boolean => spawnSync('mount', args).status === 0
const mounted = mount('--bind', source, place) && mount('-o', 'remount,ro,bind', place)
const readOnly = testIf(mounted, 'only root can mount a read-only folder')

test.before(async () => {
  await writeRun(join(source, 'run'), { evaluated: false })
  await writeFile(join(source, 'run', RUN_FILES.policy), writeSafetensors(drawPolicy({ widths: [8, 8, 2] })))
  await mkdir(join(source, 'empty'))
})
test.after.always(async () => {
  spawnSync('umount', [place])
  await rm(source, { recursive: true, force: true })
})

const DATA = ['--dataset', 'env:point-circle?episodes=5', '--algorithm', 'bc', '--cost-limit', '60']
const LINES: [what: string, args: string[], remedy: RegExp][] = [
  ['evaluate', ['evaluate', 'run', '--episodes', '1'], /drcorl evaluate .*policy\.safetensors/],
  ['train', ['train', ...DATA, '--out', 'new/run'], /--out/],
  ['train into a folder', ['train', ...DATA, '--out', 'empty'], /--out/],
  ['export', ['export', 'run/policy.safetensors', '--format', 'onnx', '--out', 'policy.onnx'], /--out/],
  ['export into a folder', ['export', 'run', '--format', 'tfjs'], /--out/],
]

for (const [what, args, remedy] of LINES) {
  readOnly(`${what}: status 2, place, reason and remedy`, async (t) => {
    const path = /^(run|new|empty|policy\.onnx)/
    const words = args.map((word) => (path.test(word) ? join(place, word) : word))
    const before = environmentSteps()
    const { status, stdout } = await inProcess(...words, '--json')
    t.is(status, 2, stdout)
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string; hint?: string } }
    t.is(error.code, 'Io')
    t.true(error.message.includes(place), error.message)
    t.regex(error.message, /read-only/i)
    t.regex(error.hint ?? '', remedy)
    // The scripted data of `train` are made by steps too.
    if (what === 'evaluate') t.is(environmentSteps(), before)
  })
}
