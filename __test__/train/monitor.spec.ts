/** The monitor: learning curves of true return and cost that training never reads. */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { writeJson } from '../../src/base/files.js'
import { environmentSteps } from '../../src/envs/ledger.js'
import { loadPolicy } from '../../src/policy/node.js'
import { reportPage } from '../../src/report/report.js'
import { readRun } from '../../src/report/run-data.js'
import type { TrainEvent, TrainOptions } from '../../src/train/events.js'
import { train } from '../../src/train/experiment.js'
import { monitorSteps, readMonitor } from '../../src/train/monitor-file.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { drcorl, inProcess, temporaryFolder } from '../cli/spawn.js'
import { SMALL, smallConfig } from '../small.js'

async function run(options: TrainOptions, until?: (event: TrainEvent) => boolean): Promise<TrainEvent[]> {
  const events: TrainEvent[] = []
  for await (const event of train(options)) {
    events.push(event)
    if (until?.(event)) break
  }
  return events
}

const of = <Type extends TrainEvent['type']>(events: TrainEvent[], type: Type) =>
  events.filter((event): event is Extract<TrainEvent, { type: Type }> => event.type === type)

const WATCHED = { ...SMALL, evalEvery: 15, evalEpisodes: 2 }

test.serial('it watches at every interval and at the end, changes no bit, and is counted apart', async (t) => {
  const folder = await temporaryFolder()
  const [plain, watched] = [join(folder, 'plain'), join(folder, 'watched')]
  const without = of(await run({ ...SMALL, out: plain }), 'end')[0]!
  const before = environmentSteps()
  const events = await run({ ...WATCHED, out: watched })
  const taken = environmentSteps() - before
  const points = of(events, 'monitor')
  t.deepEqual(
    points.map(({ update, episodes }) => [update, episodes]),
    [
      [15, 2],
      [30, 2],
      [40, 2],
    ],
  )
  const end = of(events, 'end')[0]!
  t.true(taken > 0)
  t.deepEqual([end.environment_steps, end.monitor_steps], [0, taken])
  t.is(without.monitor_steps, 0)
  t.is(await readMonitor(plain), null)
  const monitor = (await readMonitor(watched))!
  t.is(monitorSteps(monitor), taken)
  t.is(monitor.environment, 'point-circle')
  t.true(monitor.seed > 1e6)
  for (const name of [RUN_FILES.policy, RUN_FILES.certificate]) {
    t.deepEqual(await readFile(join(plain, name)), await readFile(join(watched, name)), name)
  }
  const result = JSON.parse(await readFile(join(watched, RUN_FILES.result), 'utf8'))
  t.is(result.environment_steps.training, 0)
  // Nothing was kept.
  t.false((await readdir(watched)).includes('monitor'))
  const page = reportPage(await readRun(watched))
  t.regex(page, /While it was trained/)
  t.regex(page, /monitor, beside training/)
})

test.serial('a resumed run goes on with its monitor unasked, and no point is played twice', async (t) => {
  const folder = await temporaryFolder()
  const [whole, cut] = [join(folder, 'whole'), join(folder, 'cut')]
  await run({ ...WATCHED, out: whole })
  await run({ ...WATCHED, out: cut }, (event) => event.type === 'monitor' && event.update === 30)
  const before = environmentSteps()
  const events = await run({ out: cut, resume: true })
  t.deepEqual(
    of(events, 'monitor').map(({ update }) => update),
    [40],
  )
  const [one, other] = [await readMonitor(whole), await readMonitor(cut)]
  t.deepEqual(other, one)
  const end = of(events, 'end')[0]!
  t.deepEqual([end.environment_steps, end.monitor_steps], [0, monitorSteps(one!)])
  t.is(environmentSteps() - before, one!.points[2]!.environment_steps)
  await t.throwsAsync(run({ out: cut, resume: true, evalEvery: 20 }), { code: 'Usage', message: /every = 15, not 20/ })
})

test.serial('below 1 the interval is a share, and a policy that has not changed is not played again', async (t) => {
  const out = join(await temporaryFolder(), 'run')
  const config = smallConfig('drcorl', { cost_limit: 10, audit_members: 1, warmup_steps: 20, critic_steps: 20 })
  const events = await run({ ...SMALL, algorithm: 'drcorl', config, out, evalEvery: 0.25, evalEpisodes: 2 })
  const points = of(events, 'monitor')
  const start = of(events, 'start')[0]!
  const updates = start.phases.reduce((sum, { stage, steps }) => sum + (stage === 'algorithm' ? steps : 0), 0)
  t.is(points.at(-1)!.update, updates)
  t.true(points.length >= 4)
  points.slice(1).forEach((point, index) => {
    const same = point.sha256 === points[index]!.sha256
    t.is(point.environment_steps === 0, same)
    if (same) t.deepEqual(point.return, points[index]!.return)
  })
  t.true(
    points.some(({ environment_steps: steps }) => steps === 0),
    'critics alone change no policy',
  )
})

test.serial('--keep-checkpoints keeps what was watched, and --overwrite removes it', async (t) => {
  const out = join(await temporaryFolder(), 'run')
  await run({ ...WATCHED, out, keepCheckpoints: true })
  const points = join(out, 'monitor')
  t.deepEqual(await readdir(points), ['update-000000015', 'update-000000030', 'update-000000040'])
  const kept = join(points, 'update-000000015')
  t.deepEqual(await readdir(kept), [RUN_FILES.checkpoint, RUN_FILES.policy])
  t.is((await loadPolicy(join(kept, RUN_FILES.policy))).obs_dim, 8)
  await writeFile(join(points, 'mine.txt'), 'mine')
  await mkdir(join(points, 'update-old'))
  await run({ ...SMALL, out, overwrite: true })
  t.deepEqual(await readdir(points), ['mine.txt', 'update-old'])
  t.is(await readMonitor(out), null)
})

test('the command line prints what was watched apart from what was trained', async (t) => {
  const out = join(await temporaryFolder(), 'run')
  const flags = Object.entries({ ...SMALL.config }).flatMap(([name, value]) => [`--${name}`, String(value)])
  const words = ['train', '--dataset', SMALL.dataset as string, '--algorithm', 'bc', '--preset', 'none', ...flags]
  const { status, stdout, stderr } = await drcorl(...words, '--out', out, '--eval-every', '20', '--eval-episodes', '2')
  t.is(status, 0, stderr)
  t.regex(stderr, /monitor after 20 updates: cost .* \(limit 10\), return .* none read by training/)
  t.regex(stdout, /environment steps 0\n/)
  t.regex(stdout, /monitor +\d+ environment steps, none read by training/)
})

test('bad input is refused before anything is written', async (t) => {
  const out = join(await temporaryFolder(), 'run')
  const words = ['train', '--env', 'point-circle', '--algorithm', 'bc', '--out', out]
  for (const [more, message] of [
    [['--eval-every', '1.5'], /eval-every 1.5 must be a whole number of updates/],
    [['--eval-every', '0'], /eval-every 0 must be/],
    [['--eval-every', '5', '--eval-episodes', '0'], /eval-episodes 0 must be/],
    [['--eval-episodes', '5'], /eval-episodes is for runs with eval-every/],
    [['--keep-checkpoints'], /keep-checkpoints is for runs with eval-every/],
    [['--eval-every', '5', '--environment', 'nowhere'], /unknown environment "nowhere"/],
  ] as const) {
    const { status, stderr } = await inProcess(...words, ...more)
    t.is(status, 2, more.join(' '))
    t.regex(stderr, message)
    await t.throwsAsync(readdir(out))
  }
})

test('a damaged file is named', async (t) => {
  const folder = await temporaryFolder()
  const value = { mean: 1, std: null }
  const point = { update: 1, step: 1, phase: 'a', episodes: 1, return: value, cost: value, environment_steps: 3 }
  const good = {
    format: 'drcorl-monitor/1',
    every: 4,
    episodes: 1,
    seed: 1,
    environment: null,
    keep_checkpoints: false,
  }
  const points = [{ ...point, sha256: 'a' }]
  const write = (content: unknown): Promise<void> => writeJson(join(folder, RUN_FILES.monitor), content)
  await write({ ...good, points })
  t.like(await readMonitor(folder), good)
  for (const [content, message] of [
    [{}, /is damaged: it is not of format "drcorl-monitor\/1"/],
    [good, /is damaged: it has no points/],
    [{ ...good, points: {} }, /points is \{\}, but must be an array/],
    [{ ...good, points: [{ update: 1 }] }, /points\[0\] has no step/],
    [
      { ...good, points: [{ ...points[0], cost: { mean: 1, std: {} } }] },
      /points\[0\]\.cost\.std is \{\}, but must be a/,
    ],
    [{ ...good, points: [{ ...points[0], environment_steps: -1 }] }, /environment_steps is -1, but must be at least 0/],
    [{ ...good, points, every: 'often' }, /every is "often", but must be a number/],
    [{ ...good, points, environment: {} }, /environment is \{\}, but must be a string or null/],
  ] as const) {
    await write(content)
    await t.throwsAsync(readMonitor(folder), { code: 'Data', message })
  }
})
