/** Where the time of a run goes: it adds up, and asking for it changes no bit. */
import { mkdtemp, readFile, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { exists, readJson, sha256File } from '../../src/base/files.js'
import type { ProfilePart, RunProfile } from '../../src/config/results.js'
import { readWhole } from '../../src/config/stored.js'
import { profileRows } from '../../src/report/profile.js'
import { writeReport } from '../../src/report/report.js'
import type { EndEvent, TrainOptions } from '../../src/train/events.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { inProcess } from '../cli/spawn.js'
import { SMALL, smallFlags, trained } from '../small.js'
import { collect } from './collect.js'

const newRun = async (): Promise<string> => join(await mkdtemp(join(tmpdir(), 'drcorl-profile-')), 'run')
const sum = (numbers: readonly number[]): number => numbers.reduce((total, number) => total + number, 0)

async function profiled(options: TrainOptions): Promise<[EndEvent, RunProfile]> {
  const end = await trained({ ...options, profile: true })
  return [end, await readWhole('RunProfile', join(end.run_dir, RUN_FILES.profile))]
}

function addsUp(t: ExecutionContext, profile: RunProfile): void {
  const { wall_seconds: wall, parts, phases, kernels, first_step: first, last_step: last } = profile
  t.is(sum(phases.map(({ steps }) => steps)), last - first)
  const known = sum([...parts, ...phases].map(({ seconds }) => seconds))
  t.true(known <= wall && known > wall / 2, `${known} of ${wall} s`)
  const gflop = (of: RunProfile['phases'][number]): number => sum(of.products.map((one) => one.gflop))
  t.true(Math.abs(sum(phases.map(gflop)) / sum(kernels.map((kernel) => kernel.gflop)) - 1) < 1e-9)
  t.true(kernels.every((kernel) => kernel.share_of_peak > 0 && kernel.share_of_peak < 2))
  const rows = profileRows(profile)
  t.deepEqual(
    rows.filter(([name]) => !name!.startsWith(' ')).map(([name]) => name),
    [...phases, ...parts].map(({ name }) => name).concat('between these'),
  )
}

test('a profile adds up, and the run has the bits that it has without one', async (t) => {
  const out = await newRun()
  const without = await trained({ ...SMALL, out })
  t.is(without.profile, null)
  t.false(await exists(join(out, RUN_FILES.profile)))
  const [end, profile] = await profiled({ ...SMALL, out: await newRun() })
  t.deepEqual(end.profile, profile)
  addsUp(t, profile)
  t.like(profile, { algorithm: 'bc', first_step: 0, last_step: end.step, threads: 1 })
  t.deepEqual(
    profile.phases.map(({ name, stage }) => [name, stage]),
    [
      ['cloning', 'algorithm'],
      ['audit', 'audit'],
      ['certificate', 'certificate'],
    ],
  )
  t.deepEqual(
    profile.parts.map(({ name }) => name),
    ['data', 'setup', 'checkpoints', 'policies'],
  )
  for (const file of [RUN_FILES.checkpoint, RUN_FILES.policy, RUN_FILES.certificate]) {
    t.is(await sha256File(join(end.run_dir, file)), await sha256File(join(out, file)), file)
  }
})

test('the profile of an interrupted run and of what was resumed are of their own steps', async (t) => {
  const out = await newRun()
  const controller = new AbortController()
  const { signal } = controller
  const events = await collect({ ...SMALL, out, profile: true, signal }, (event) => {
    if (event.type === 'progress' && event.step >= 10) controller.abort()
  })
  const stopped = events.at(-1) as EndEvent
  t.is(stopped.status, 'interrupted')
  addsUp(t, stopped.profile!)
  const [, profile] = await profiled({ out, resume: true })
  addsUp(t, profile)
  t.is(profile.first_step, stopped.step)
})

test('train --profile: a table at the end, a section of the report; a damaged file is refused', async (t) => {
  const out = await newRun()
  const sizes = smallFlags('bc', { audit_members: 2, fqe_steps: 4, cost_limit: 10 })
  const flags = ['--env', 'point-circle', '--algorithm', 'bc', '--preset', 'none', ...sizes, '--out', out]
  const { status, stdout, stderr } = await inProcess('train', ...flags, '--profile')
  t.is(status, 0, stderr)
  t.regex(stdout, /^part +seconds +share +count/)
  t.regex(stdout, /\ncertificate +\d[^]*\nbetween these[^]*\nkernel[^]*\npeak: \d+ GFLOP[^]*\nrun folder /)
  t.regex(
    await readFile(join(out, RUN_FILES.report), 'utf8'),
    /Where the time went[^]*>certificate<[^]*>between these</,
  )
  const path = join(out, RUN_FILES.profile)
  await writeFile(path, JSON.stringify({ ...((await readJson(path)) as RunProfile), wall_seconds: 'long' }))
  await t.throwsAsync(writeReport(out), { code: 'Data', message: /profile\.json is damaged: wall_seconds is "long"/ })
})

test('rows of a profile: parts lie in what holds them, and short ones are left out', (t) => {
  const products = [{ kernel: 'avx512', products: 10, seconds: 3, gflop: 240 }]
  const part = (name: string, seconds: number, parts: ProfilePart[] = []): ProfilePart => {
    return { name, calls: 4, seconds, products: [], parts }
  }
  const profile: RunProfile = {
    format: 'drcorl-profile/1',
    created: '',
    algorithm: 'bc',
    first_step: 0,
    last_step: 8,
    wall_seconds: 10,
    cpu_seconds: 9,
    threads: 2,
    matmul_precision: 'highest',
    kernels: [],
    peak: { gflop_per_s: 100, kernel: 'avx512', shape: [256, 256, 256] },
    parts: [part('data', 1)],
    phases: [
      {
        name: 'audit',
        stage: 'audit',
        steps: 8,
        seconds: 6,
        products,
        parts: [part('replay', 2, [part('models', 1), part('actions', 0.04)])],
      },
    ],
  }
  t.deepEqual(profileRows(profile), [
    ['audit', '6.00', '60 %', '8', '750', '25 %', '80', '80 %'],
    ['  replay', '2.00', '20 %', '4', '500', '', '', ''],
    ['    models', '1.00', '10 %', '4', '250', '', '', ''],
    ['data', '1.00', '10 %', '4', '250', '', '', ''],
    ['between these', '3.00', '30 %', '', '', '', '', ''],
  ])
})
