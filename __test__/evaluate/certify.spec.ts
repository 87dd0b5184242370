/** Certificates again: every algorithm, every form of a policy, alone and in company, and what is refused. */
import { copyFile, mkdir, mkdtemp, readFile, readdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { output } from '../../src/cli/commands/certify.js'
import { sha256File, writeJson } from '../../src/base/files.js'
import { loadSchema } from '../../src/config/schema.js'
import { type Certification, certify } from '../../src/evaluate/certify.js'
import { exportPolicy } from '../../src/export/export.js'
import { readSafetensors, writeSafetensors } from '../../src/policy/safetensors.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { inProcess, start } from '../cli/spawn.js'
import { smallConfig } from '../small.js'

const DATASET = 'env:point-circle?episodes=20'
const OTHERS = 'env:point-circle?episodes=14&seed=5'

const folder = await mkdtemp(join(tmpdir(), 'drcorl-certify-'))
let made = 0

/** A small run of any algorithm. */
async function trained(algorithm: string, more: Record<string, unknown> = {}, auditModels?: string): Promise<string> {
  const out = join(folder, `${algorithm}-${(made += 1)}`)
  const config = smallConfig(algorithm, { cost_limit: 40, audit_members: 2, ...more })
  for await (const _ of train({ dataset: DATASET, algorithm, preset: 'none', config, out, auditModels }));
  return out
}

/** One run of each algorithm, for the tests that leave it as it is. */
const runs = new Map(Object.keys(loadSchema().algorithms).map((algorithm) => [algorithm, trained(algorithm)]))

/** Estimates, verdict and reasons: all that must not depend on how a policy was named. */
const judgement = ({ policies }: Certification): unknown[] => policies.map(({ certificate }) => certificate)

/** A policy that tells nothing of where it comes from. */
async function foundling(run: string): Promise<string> {
  const { metadata, tensors } = readSafetensors(await readFile(policyOf(run)), run)
  for (const key of ['cost_limit', 'dataset_sha256']) metadata.delete(key)
  const path = join(folder, `${(made += 1)}.safetensors`)
  await writeFile(path, writeSafetensors({ metadata, tensors }))
  return path
}

const policyOf = (run: string): string => join(run, RUN_FILES.policy)

for (const [algorithm, training] of runs) {
  test(`${algorithm}: run folder and policy file are judged alike, by the run's data and by others`, async (t) => {
    const run = await training
    const before = await readFile(join(run, RUN_FILES.certificate), 'utf8')
    const phases = new Set<string>()
    const own = await certify({ policies: run, onProgress: ({ phase }) => phases.add(phase) })
    t.deepEqual([...phases], ['audit', 'certificate'])
    t.like(own, { format: 'drcorl-certification/1', cost_limit: 40, dataset: { source: `${DATASET}&seed=0` } })
    const [one] = own.policies
    const sha256 = await sha256File(policyOf(run))
    t.like(one, { path: run, sha256, algorithm, settings: {}, exported: null, learnt_from: 'these' })
    t.true(Number.isFinite(one!.certificate.estimates.model_rollout?.cost.mean))
    t.is(own.certified, one!.certificate.verdict === 'certified')
    t.deepEqual(judgement(await certify({ policies: run })), judgement(own), 'it repeats')

    const alone = await certify({ policies: policyOf(run), dataset: DATASET, config: own.run })
    t.deepEqual(judgement(alone), judgement(own))
    const bare = await certify({ policies: await foundling(run), dataset: DATASET, config: own.run })
    t.deepEqual(judgement(bare), judgement(own))
    t.is(bare.policies[0]!.learnt_from, null)

    const others = await certify({ policies: run, dataset: OTHERS, cost_limit: 30 })
    t.like(others, { cost_limit: 30, policies: [{ learnt_from: 'others' }], dataset: { episodes: 14 } })
    t.is(others.policies[0]!.certificate.cost_limit, 30)
    t.notDeepEqual(judgement(others), judgement(own))
    t.is(await readFile(join(run, RUN_FILES.certificate), 'utf8'), before, 'the run is left as it was')
  })
}

test('two policies side by side: the same models and starts, and each as if it were alone', async (t) => {
  const [a, b] = [await trained('bc'), await trained('bc', { seed: 1 })]
  const both = await certify({ policies: [a, b] })
  t.deepEqual(
    both.policies.map(({ path }) => path),
    [a, b],
  )
  t.notDeepEqual(both.policies[0]!.certificate.estimates, both.policies[1]!.certificate.estimates)
  t.deepEqual(both.policies[0]!.certificate.validity, both.policies[1]!.certificate.validity)
  t.deepEqual(judgement(both)[0], judgement(await certify({ policies: a }))[0])
  t.deepEqual(judgement(both)[1], judgement(await certify({ policies: b, config: { seed: 0 } }))[0])
})

test('judgements by several limits share the models, and say what they would say alone', async (t) => {
  const auditModels = join(folder, 'models')
  // Those of a run are others.
  const run = await trained('bc', {}, auditModels)
  for (const cost_limit of [30, 60]) {
    const shared = await certify({ policies: run, cost_limit, auditModels })
    t.deepEqual(judgement(shared), judgement(await certify({ policies: run, cost_limit })))
    t.is((await readdir(auditModels)).length, 2)
  }
})

test('episodes that a run kept from itself are those its policy is tested on again', async (t) => {
  const run = await trained('bc', { holdout: 0.25 })
  const stored = JSON.parse(await readFile(join(run, RUN_FILES.certificate), 'utf8')) as object
  const held_out = { share: 0.25, seed: 0, episodes: 5, transitions: 1000 }
  t.like(stored, { held_out, validity: { held_out_episodes: 5 } })
  const again = await certify({ policies: run })
  t.like(again.policies[0], { learnt_from: 'rest', certificate: { held_out, validity: { held_out_episodes: 5 } } })
  const seen = await certify({ policies: run, config: { seed: 3 } })
  t.is(seen.policies[0]!.learnt_from, 'these', 'another seed tests on episodes that training has seen')
  const others = await certify({ policies: run, dataset: OTHERS })
  t.like(others.policies[0], { learnt_from: 'others', certificate: { held_out: null } })
})

test('an export is judged as the policy it came from, and refused once it is not', async (t) => {
  const run = await trained('bc')
  const wanted = await certify({ policies: run })
  const config = wanted.run
  for (const format of ['onnx', 'tfjs', 'safetensors'] as const) {
    const out = join(run, 'export', format === 'tfjs' ? 'tfjs' : `policy.${format}`)
    const { path } = await exportPolicy({ policy: policyOf(run), format, out })
    const exported = await certify({ policies: out, dataset: DATASET, config })
    t.deepEqual(judgement(exported), judgement(wanted), format)
    t.like(exported.policies[0], { exported: format === 'safetensors' ? null : format, path: out })
    if (format === 'safetensors') continue
    t.is(exported.policies[0]!.sha256, await sha256File(policyOf(run)))
    const changed = format === 'onnx' ? path : join(out, 'weights.bin')
    const bytes = await readFile(changed)
    const refused = async (message: RegExp): Promise<void> => {
      const error = await t.throwsAsync(certify({ policies: out, dataset: DATASET, config }))
      t.like(error, { exitStatus: 2 })
      t.regex(error?.message ?? '', message)
    }
    // A weight in the middle of the file.
    await writeFile(changed, bytes.with(Math.floor(bytes.length / 2), bytes[Math.floor(bytes.length / 2)]! ^ 1))
    await refused(/is not what this version exports from .*: .* has other bytes/)
    await writeFile(changed, bytes)
    const original = await readFile(policyOf(run))
    const { metadata, tensors } = readSafetensors(original, 'policy')
    metadata.set('name', 'another')
    await writeFile(policyOf(run), writeSafetensors({ metadata, tensors }))
    await refused(/was exported from .* of sha256 [0-9a-f]{64}, which is now [0-9a-f]{64}/)
    await writeFile(policyOf(run), original)
  }
  const far = join(folder, 'far')
  await mkdir(far)
  await copyFile(join(run, 'export', 'policy.onnx'), join(far, 'policy.onnx'))
  const moved = await t.throwsAsync(certify({ policies: join(far, 'policy.onnx'), dataset: DATASET, config }))
  t.regex(moved?.message ?? '', /which is not there/)
})

test('a conditioned policy is judged by the limit it is asked to keep', async (t) => {
  let found = 0
  for (const [algorithm, training] of runs) {
    const run = await training
    const { metadata } = readSafetensors(await readFile(policyOf(run)), run)
    if (!metadata.has('setting.cost_limit')) continue
    found += 1
    const asked = await certify({ policies: run, settings: { cost_limit: 25 } })
    t.like(asked, { cost_limit: 25, policies: [{ settings: { cost_limit: 25 } }] }, algorithm)
    const other = await certify({ policies: run, cost_limit: 25 })
    t.like(other, { cost_limit: 25, policies: [{ settings: {} }] })
  }
  t.true(found > 0)
})

test('status 0 where all are certified, 3 where not all', async (t) => {
  const result = await certify({ policies: [await trained('bc')] })
  const [one] = result.policies
  const as = (verdict: 'certified' | 'not certified') => ({ ...one!, certificate: { ...one!.certificate, verdict } })
  t.is(output({ ...result, certified: true, policies: [as('certified')] }, undefined).status, undefined)
  const mixed = { ...result, certified: false, policies: [as('certified'), as('not certified')] }
  t.like(output(mixed, undefined), { status: 3, json: { error: { code: 'NotCertified' } } })
  t.regex(output(mixed, 'f.json').text, /1 of 2|not certified/)
})

test('the command: table, JSON, a file, and one line for what is refused', async (t) => {
  const [run, other] = [await trained('bc'), await trained('bc', { cost_limit: 20 })]
  const out = join(folder, 'certified.json')
  const done = await inProcess('certify', run, '--dataset', OTHERS, '--audit-members', '1', '--out', out, '--json')
  t.is(done.status, 3, done.stderr)
  const { error, ...printed } = JSON.parse(done.stdout) as Record<string, unknown>
  t.like(error as object, { code: 'NotCertified' })
  t.deepEqual(printed, JSON.parse(await readFile(out, 'utf8')))
  t.like(printed, { certified: false, run: { audit_members: 1 } })
  t.regex(done.stderr, /audit +\d+\/\d+/)
  const text = await inProcess('certify', run, other, '--cost-limit', '30')
  t.regex(text.stdout, /policy +algorithm +verdict +cost +upper/)
  t.regex(text.stdout, /one ensemble and the same initial states for all/)
  const bare = await foundling(run)
  for (const [words, message] of [
    [[], /Not enough non-option arguments/],
    [[join(folder, 'nowhere')], /is neither a run folder nor a policy|no such file/],
    [[run, other], /is for cost limit 40, .* for 20/],
    [[bare], /does not say which cost limit it is for/],
    [[policyOf(run), '--cost-limit', '10'], /is a policy by itself, without data/],
    [[policyOf(run), '--policy', 'averaged'], /is no run folder/],
    [[run, '--policy', 'best'], /has no policy "best"/],
    [[run, '--policy', '../x'], /has no policy "..\/x"/],
    [[run, '--cost-limit', '-1'], /cost_limit is -1; give a number from 0/],
    [[run, '--set', 'target=1'], /target is no setting of/],
    [[run, '--env', 'point-run'], /has 9 entries in an observation|entries in an? \w+, the episodes of/],
    [[run, '--dataset', '/nowhere.hdf5'], /nowhere\.hdf5: no such file/],
    [[run, '--out', out], /is there already/],
    [[run, '--mode', 'offline'], /unknown option --mode/],
  ] as const) {
    const refused = await inProcess('certify', ...words)
    t.is(refused.status, 2, `${words.join(' ')}: ${refused.stderr}${refused.stdout}`)
    t.regex(refused.stderr, message)
  }
})

test('a run that has not ended is refused, and what its environment cost is not forgotten', async (t) => {
  const run = await trained('bc')
  const path = join(run, RUN_FILES.certificate)
  const stored = JSON.parse(await readFile(path, 'utf8')) as object
  await writeJson(path, { ...stored, environment_steps: 77 })
  t.is((await certify({ policies: run })).policies[0]!.certificate.environment_steps, 77)
  const half = join(folder, 'half')
  await mkdir(half)
  await copyFile(join(run, RUN_FILES.config), join(half, RUN_FILES.config))
  const error = await t.throwsAsync(certify({ policies: half }))
  t.regex(error?.message ?? '', /its training has not ended/)
})

test('Ctrl-C: status 130, soon, and no file', async (t) => {
  const run = await trained('bc')
  const out = join(folder, 'stopped.json')
  const { child, finished, waitFor } = start(['certify', run, '--model-steps', '1000000', '--out', out])
  await waitFor(/audit/)
  child.kill('SIGINT')
  const { status, stderr } = await finished
  t.is(status, 130, stderr)
  t.false((await readdir(folder)).includes('stopped.json'))
})
