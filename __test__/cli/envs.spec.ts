/** `drcorl envs` and `drcorl evaluate` with real environments. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { TASKS } from '../../src/data/tasks.js'
import type { Evaluation } from '../../src/evaluate/evaluate.js'
import { lock } from '../../src/native/lock.js'
import { train } from '../../src/train/experiment.js'
import { MODULES, installedPython } from '../envs/real.js'
import { smallConfig } from '../small.js'
import { serialIf } from '../test-if.js'
import { inProcess, start, temporaryFolder } from './spawn.js'

process.env['PYTHONPATH'] = MODULES
const python = await installedPython()
const real = serialIf(python !== undefined, 'the environments are not installed: drcorl envs install')

/** A run of some steps; point-circle has the sizes of BallCircle. */
async function smallRun(): Promise<string> {
  const out = join(await temporaryFolder(), 'run')
  const config = smallConfig('bc', { cost_limit: 10 })
  for await (const event of train({ dataset: 'env:point-circle', algorithm: 'bc', config, out })) void event
  return out
}

test('envs list shows the 38 tasks and the embedded ones with sizes, lengths, ranges and state', async (t) => {
  const nowhere = await temporaryFolder()
  const { tasks } = JSON.parse((await inProcess('envs', 'list', '--dir', nowhere, '--json')).stdout) as {
    tasks: { task: string; installed: boolean }[]
  }
  t.is(tasks.length, 40)
  t.deepEqual(
    tasks.filter(({ installed }) => installed).map(({ task }) => task),
    ['point-circle', 'point-run'],
  )
  t.like(
    tasks.find(({ task }) => task === 'CarRun'),
    { obs_dim: 7, act_dim: 2, episode_length: 200, max_cost: 40, suite: 'bullet_safety_gym' },
  )
  const { stdout } = await inProcess('envs', 'list', '--dir', nowhere)
  for (const { task } of TASKS) t.regex(stdout, new RegExp(`^${task} `, 'm'))
  t.regex(stdout, /^BallCircle .* 8 +2 +200 +0\.3831 to 881\.5 +0 to 80 +no$/m)
  t.regex(stdout, /^easymean .*not available$/m)
  t.true(stdout.includes(nowhere))
})

real('envs list knows what is installed', async (t) => {
  const { tasks } = JSON.parse((await inProcess('envs', 'list', '--json')).stdout) as {
    tasks: { installed: boolean }[]
  }
  t.is(tasks.filter(({ installed }) => installed).length, 31)
})

real('envs check steps a task, an embedded one and one of the user, and prints sizes, ranges and speed', async (t) => {
  const { status, stdout } = await inProcess('envs', 'check', 'BallCircle')
  t.is(status, 0)
  t.regex(stdout, /BallCircle \(SafetyBallCircle-v0\)\n.*8, seen from [^]*200 steps[^]*\d+ steps\/s/)
  const json = async (...args: string[]): Promise<Record<string, unknown>> =>
    JSON.parse((await inProcess('envs', 'check', ...args, '--json')).stdout) as Record<string, unknown>
  t.like(await json('point-run'), { env: 'point-run', obs_dim: 5, episode_length: 100, num_envs: 1 })
  const walk = await json('misbehaving:Walk-v0', '--num-envs', '3', '--workers', '2')
  t.like(walk, { obs_dim: 2, act_dim: 1, episode_length: 10, num_envs: 3, cost_max: 1 })
  t.like(await json('misbehaving:no_cost-v0'), { error: { code: 'Environment' } })
})

const MISTAKES: [args: string[], message: RegExp, hint?: RegExp][] = [
  [['envs'], /Not enough non-option arguments/],
  [['envs', 'remove'], /Given: "remove", Choices: "install", "list", "check"/],
  [['envs', 'check'], /needs a task/, /envs check BallCircle/],
  [['envs', 'check', 'BallCirkle'], /unknown environment "BallCirkle"/, /envs list/],
  [['envs', 'check', 'easymean'], /metadrive cannot be installed/, /module:Id/],
  [['envs', 'check', 'BallCircle', '--dir', '/nowhere'], /not installed in \/nowhere/, /npx drcorl envs install/],
  [['envs', 'check', 'point-run', '--num-envs', '0'], /--num-envs 0 must be a whole number/],
  [['envs', 'list', 'BallCircle'], /takes no task/],
  [['envs', 'list', '--suite', 'bullet_safety_gym'], /--suite belongs to envs install/],
  [['envs', 'install', '--suite', 'atari'], /Given: "atari"/],
  [['envs', 'install', '--dir', '/dev/null'], /cannot make the folder \/dev\/null: it is a file/],
  [
    ['envs', 'install', '--dir', '/tmp', '--python', '/no/python'],
    /Python 3\.11 or 3\.10 is needed; \/no\/python: not there/,
  ],
  [['evaluate', '/nowhere', '--task', 'BallCircle', '--env', 'point-run'], /mutually exclusive/],
  [['evaluate', '/nowhere', '--convention', 'mine'], /Given: "mine"/],
]

test('bad input is one line with a remedy and status 2', async (t) => {
  for (const [args, message, hint] of MISTAKES) {
    const { status, stdout, stderr } = await inProcess(...args)
    t.is(status, 2, `${args.join(' ')}: ${stderr}`)
    t.is(stdout, '')
    t.regex(stderr, message)
    if (hint) t.regex(stderr, hint)
  }
})

real('envs install run again steps every suite and installs nothing', async (t) => {
  const { status, stdout, stderr } = await inProcess('envs', 'install', '--json')
  t.is(status, 0, stderr)
  t.like(JSON.parse(stdout), {
    suites: [
      { suite: 'bullet_safety_gym', action: 'up to date' },
      { suite: 'safety_gymnasium', action: 'up to date' },
    ],
  })
  t.regex(stderr, /SafetyHopperVelocityGymnasium-v1 works, 11 observations, \d+ steps\/s/)
  t.false(stderr.includes('installing'))
})

test.serial('envs install: a wrong Python, a pip that fails, another installation, an interrupted one', async (t) => {
  const dir = await temporaryFolder()
  const old = join(dir, 'python-of-2019')
  await writeFile(old, '#!/bin/sh\necho 3.8.1\n', { mode: 0o755 })
  const wrong = await inProcess('envs', 'install', '--dir', dir, '--python', old)
  t.is(wrong.status, 2)
  t.regex(wrong.stderr, /Python 3\.11 or 3\.10 is needed; .*python-of-2019: 3\.8\.1/)

  // What an interrupted installation leaves: an environment without a record,
  // and perhaps a lock of a process that is gone.
  await mkdir(join(dir, 'python/rubbish'), { recursive: true })
  await writeFile(join(dir, 'install.lock'), '999999999')
  process.env['PIP_NO_INDEX'] = '1'
  process.env['PIP_FIND_LINKS'] = dir
  const offline = await inProcess('envs', 'install', '--dir', dir)
  delete process.env['PIP_NO_INDEX']
  delete process.env['PIP_FIND_LINKS']
  t.is(offline.status, 1)
  t.regex(
    offline.stderr,
    /error: installing Bullet-Safety-Gym 1\.4\.0 failed \(status 1\)\n[^]*No matching distribution found for/,
  )
  t.false(existsSync(join(dir, 'python/rubbish')))
  t.false(existsSync(join(dir, 'install.lock')))
  t.false(existsSync(join(dir, 'drcorl-envs.json')))

  const unlock = await lock(join(dir, 'install.lock'), `installing environments in ${dir}`)
  const second = await inProcess('envs', 'install', '--dir', dir)
  t.is(second.status, 1)
  t.regex(second.stderr, new RegExp(`process ${process.pid} on \\S+ is installing environments in .* already`))
  unlock()

  const interrupted = start(['envs', 'install', '--dir', dir])
  await interrupted.waitFor(/Python 3\.1\d/)
  interrupted.child.kill('SIGINT')
  t.is((await interrupted.finished).status, 130)
  t.false(existsSync(join(dir, 'install.lock')))
})

real('evaluate plays a run in a real environment: table, files, same seed same episodes', async (t) => {
  const run = await smallRun()
  const { status, stdout, stderr } = await inProcess(
    'evaluate',
    run,
    '--task',
    'BallCircle',
    '--episodes',
    '6',
    '--workers',
    '2',
  )
  t.is(status, 0, stderr)
  t.regex(stdout, /^BallCircle, 6 episodes from seed 0, cost limit 10$/m)
  t.regex(
    stdout,
    /^policy +limit +return +95 % +cost +95 % +norm\. reward +norm\. cost \(dsrl\) +within limit +runtime +steps\/s$/m,
  )
  t.regex(
    stdout,
    /^policy\.safetensors +10 +-?[\d.]+ \+- [\d.]+ +-?[\d.]+ to -?[\d.]+ .* \d\/6 \(\d+ %\) +native +\d+$/m,
  )
  t.regex(stderr, /policy\.safetensors {2}\d\/6 episodes {2}\d+ % {2}\d+ steps\/s {2}ETA/)
  const first = await readFile(join(run, 'episodes.csv'), 'utf8')
  t.is(first.trimEnd().split('\n').length, 7)
  const list = JSON.parse(await readFile(join(run, 'episodes.json'), 'utf8')) as { episodes: { seed: number }[] }[]
  t.deepEqual(
    list[0]?.episodes.map(({ seed }) => seed),
    [0, 1, 2, 3, 4, 5],
  )
  const written = JSON.parse(await readFile(join(run, 'evaluation.json'), 'utf8')) as Evaluation
  t.like(written, { env: 'BallCircle', environment_steps: 1200, score_range: { min_cost: 0, max_cost: 80 } })
  t.true(written.steps_per_second > 0 && written.normalized_reward !== null)

  const again = await inProcess(
    'evaluate',
    run,
    '--task',
    'BallCircle',
    '--episodes',
    '6',
    '--workers',
    '1',
    '--convention',
    'drcorl',
  )
  t.regex(again.stdout, /norm\. cost \(drcorl\) = cost \/ \(limit \+ 0\.1\)/)
  t.is(await readFile(join(run, 'episodes.csv'), 'utf8'), first)
})

real('evaluate takes the task of the data by default, and refuses one of other sizes', async (t) => {
  const run = await smallRun()
  const path = join(run, 'config.json')
  const config = JSON.parse(await readFile(path, 'utf8')) as { task: object }
  await writeFile(path, JSON.stringify({ ...config, task: { ...config.task, task: 'BallCircle', env: null } }))
  const { stdout, stderr } = await inProcess('evaluate', run, '--episodes', '2', '--json')
  t.like(JSON.parse(stdout), { env: 'BallCircle', episodes: 2 }, stderr)
  const other = await inProcess('evaluate', run, '--task', 'CarRun')
  t.is(other.status, 2)
  t.regex(other.stderr, /has 8 observations, environment CarRun has 7/)
})

real('Ctrl-C ends an evaluation and its processes with status 130', async (t) => {
  const run = await smallRun()
  const started = start(['evaluate', run, '--task', 'BallCircle', '--episodes', '6000'])
  await started.waitFor(/episodes/)
  started.child.kill('SIGINT')
  const { status, stderr } = await started.finished
  t.is(status, 130, stderr)
  t.regex(stderr, /cancelled/)
})
