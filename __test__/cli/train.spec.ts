import { access, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { sha256File } from '../../src/base/files.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { withData } from '../data-files.js'
import { smallFlags } from '../small.js'
import { type Finished, drcorl, inProcess, start, temporaryFolder } from './spawn.js'

/** Cloning and no audit. */
const bc = (dataset: string, more: Record<string, unknown> = {}): string[] => {
  const flags = smallFlags('bc', { audit_members: 0, fqe_steps: 0, ...more }, { batch: 16 })
  return ['train', '--dataset', dataset, '--algorithm', 'bc', '--preset', 'none', ...flags]
}
const DATASET = 'env:point-circle?episodes=20'
const BC = bc(DATASET)
/** Some seconds of training: long enough to be interrupted, short enough to be finished. */
const LONG = [...bc(DATASET, { update_steps: 40_000 }), '--checkpoint-seconds', '0.2']

/** A progress line, not the list of phases at the start. */
const TRAINING = /cloning +\d+\/\d+ .*steps\/s/

const json = (text: string): Record<string, unknown> => {
  const [line = '', ...others] = text.trimEnd().split('\n')
  if (others.length > 0) throw new Error(`more than one line on stdout:\n${text}`)
  return JSON.parse(line) as Record<string, unknown>
}

const newRun = async (): Promise<string> => join(await temporaryFolder(), 'run')
const policyHash = (run: string): Promise<string> => sha256File(join(run, RUN_FILES.policy))

let reference: Promise<string> | undefined

/** Hash of the policy of the long run when nothing disturbs it. */
function undisturbed(): Promise<string> {
  reference ??= newRun().then(async (out) => {
    const { status, stderr } = await drcorl(...LONG, '--out', out)
    if (status !== 0) throw new Error(stderr)
    return policyHash(out)
  })
  return reference
}

async function resumes(t: ExecutionContext, out: string): Promise<void> {
  const { status, stdout, stderr } = await drcorl('train', '--resume', out, '--json')
  t.is(status, 0, stderr)
  t.like(json(stdout), { status: 'done', run_dir: out })
  t.is(await policyHash(out), await undisturbed())
}

test('train --audit-models: one run leaves the models behind its certificate, another takes them', async (t) => {
  const out = await newRun()
  const shared = join(out, '..', 'shared')
  const asked = bc(DATASET, { audit_members: 2, cost_limit: 10 })
  const run = (name: string, ...more: string[]) => inProcess(...asked, '--out', join(out, name), ...more)
  for (const [name, ...more] of [
    ['alone'],
    ['leaves', '--audit-models', shared],
    ['takes', '--audit-models', shared],
  ]) {
    const { status, stderr } = await run(name!, ...more)
    t.is(status, 0, stderr)
  }
  t.is((await readdir(shared)).filter((file) => /^audit-.*\.safetensors$/.test(file)).length, 1)
  const of = (name: string, file: string): Promise<string> => readFile(join(out, name, file), 'utf8')
  t.is(await of('takes', RUN_FILES.certificate), await of('alone', RUN_FILES.certificate))
  const taken = async (name: string): Promise<boolean> =>
    'audit_models' in (JSON.parse(await of(name, RUN_FILES.config)) as object)
  t.deepEqual([await taken('leaves'), await taken('takes')], [false, true])
})

test('train: one JSON object on stdout, progress on stderr, status 0; evaluate and data info likewise', async (t) => {
  const out = await newRun()
  const trained = await drcorl(...bc(DATASET, { update_steps: 50, cost_limit: 12.5 }), '--out', out, '--json')
  t.is(trained.status, 0, trained.stderr)
  t.like(json(trained.stdout), {
    status: 'done',
    run_dir: out,
    steps: 51,
    environment_steps: 0,
    verdict: 'not certified',
  })
  t.regex(trained.stderr, /cloning +50\/50/)
  const config = JSON.parse(await readFile(join(out, RUN_FILES.config), 'utf8')) as Record<string, unknown>
  t.like(config, {
    algorithm: 'bc',
    preset: null,
    run: { cost_limit: 12.5 },
    origins: { cost_limit: 'flag --cost_limit' },
  })

  const evaluated = await inProcess('evaluate', out, '--episodes', '3', '--seed', '7', '--json')
  t.is(evaluated.status, 0, evaluated.stderr)
  t.like(json(evaluated.stdout), { run_dir: out, env: 'point-circle', episodes: 3, seed: 7, cost_limit: 12.5 })
  await access(join(out, RUN_FILES.evaluation))
  await access(join(out, RUN_FILES.episodes))

  const info = await inProcess('data', 'info', 'env:point-circle?episodes=20', '--json')
  t.like(json(info.stdout), { transitions: 4000, episodes: 20, obs_dim: 8, act_dim: 2 })
})

test('text output tells run folder, verdict and the next command', async (t) => {
  const out = await newRun()
  const { status, stdout } = await inProcess(...BC, '--out', out)
  t.is(status, 0)
  t.true(stdout.includes(`run folder  ${out}\n`), stdout)
  t.regex(stdout, /verdict +not certified; no auditing dynamics model/)
  t.true(stdout.includes(`drcorl evaluate ${out}`))
  const evaluated = await inProcess('evaluate', out, '--episodes', '2')
  t.regex(evaluated.stdout, /policy\.safetensors .*\d+\/2/)
})

test('--require-certified: status 3 and the reason when the policy is not certified', async (t) => {
  const out = await newRun()
  const args = [...BC, '--out', out, '--require-certified']
  const { status, stdout } = await inProcess(...args, '--json')
  t.is(status, 3)
  const { error, verdict } = json(stdout) as { error: { code: string; message: string }; verdict: string }
  t.is(verdict, 'not certified')
  t.is(error.code, 'NotCertified')
  t.regex(error.message, /no auditing dynamics model/)
  await access(join(out, RUN_FILES.policy))
})

test('a run folder in use is refused with the three ways out', async (t) => {
  const out = await newRun()
  const args = [...BC, '--out', out]
  t.is((await inProcess(...args)).status, 0)
  const { status, stderr } = await inProcess(...args)
  t.is(status, 2)
  t.regex(stderr, /not empty[^]*--resume[^]*--overwrite[^]*--out/)
  t.is((await inProcess(...args, '--overwrite')).status, 0)
})

test('SIGINT, SIGTERM and SIGHUP: checkpoint, status 130, one JSON object; resumed to the same bits', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    const out = await newRun()
    const started = start([...LONG, '--out', out, '--json'])
    await started.waitFor(TRAINING)
    started.child.kill(signal)
    const { status, stdout, stderr } = await started.finished
    t.is(status, 130, stderr)
    t.regex(stderr, /interrupted/)
    const { error, step } = json(stdout) as { error: { code: string; message: string }; step: number }
    t.is(error.code, 'Cancelled')
    t.true(error.message.includes(`drcorl train --resume ${out}`))
    t.true(step > 0 && step < 40_000)
    await resumes(t, out)
  }
})

test('SIGKILL at any moment: the checkpoint before it loads, and resuming gives the same bits', async (t) => {
  const out = await newRun()
  let killed: Finished | undefined
  for (const milliseconds of [150, 400, 700]) {
    const args =
      killed === undefined ? [...LONG, '--out', out] : ['train', '--resume', out, '--checkpoint-seconds', '0.1']
    const started = start(args)
    await started.waitFor(TRAINING)
    // The moment is arbitrary on purpose; what must hold does not depend on it.
    await new Promise((resolve) => setTimeout(resolve, milliseconds))
    started.child.kill('SIGKILL')
    killed = await started.finished
  }
  await resumes(t, out)
})

const REAL_DATA = 'real data: data info knows the task, and training needs no environment'
withData('SafetyBallCircle-v0-80-800.hdf5', REAL_DATA, async (t, file) => {
  const info = await inProcess('data', 'info', file, '--json')
  t.like(json(info.stdout), { transitions: 160_000, episodes: 800, obs_dim: 8, act_dim: 2 })
  t.like(json(info.stdout)['task'], { task: 'BallCircle', env: null, episode_length: 200, max_cost: 80 })
  t.regex((await inProcess('data', 'info', file)).stdout, /task +BallCircle \(episodes of 200 steps\)/)

  const out = await newRun()
  t.is((await inProcess(...bc(file), '--out', out)).status, 0)
  // The environment is that of the task: without it, the way to get it is said.
  const evaluated = await inProcess('evaluate', out, '--dir', await temporaryFolder())
  t.is(evaluated.status, 2)
  t.regex(evaluated.stderr, /BallCircle needs Bullet-Safety-Gym .*\n.*npx drcorl envs install/)
})

test('a damaged dataset is one clear error, status 2, and nothing is written', async (t) => {
  const out = await newRun()
  const { status, stdout, stderr } = await inProcess('train', '--dataset', 'package.json', '--out', out, '--json')
  t.is(status, 2)
  t.is(stderr, '')
  t.like(json(stdout)['error'], { code: 'Data' })
  t.regex(JSON.stringify(json(stdout)), /package\.json/)
  await t.throwsAsync(access(out))
})
