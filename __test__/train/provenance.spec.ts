import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { DrcorlError } from '../../src/base/errors.js'
import { sha256File, writeJson } from '../../src/base/files.js'
import { evaluate } from '../../src/evaluate/evaluate.js'
import { exportPolicy } from '../../src/export/export.js'
import { loadPolicy } from '../../src/policy/node.js'
import { readSafetensors } from '../../src/policy/safetensors.js'
import { compareReport, writeReport } from '../../src/report/report.js'
import { readRun } from '../../src/report/run-data.js'
import { train } from '../../src/train/experiment.js'
import { RUN_FILES, readRecord } from '../../src/train/run-folder.js'
import { inProcess as drcorl } from '../cli/spawn.js'
import { smallConfig } from '../small.js'

const root = await mkdtemp(join(tmpdir(), 'drcorl-provenance-'))

/** A run folder of its own, trained in a moment. */
async function trained(name: string, config: Record<string, unknown> = {}, algorithm = 'bc'): Promise<string> {
  const out = join(root, name)
  const dataset = 'env:point-circle?episodes=5'
  const all = smallConfig(algorithm, { cost_limit: 60, audit_members: 0, fqe_steps: 0, ...config })
  for await (const event of train({ dataset, algorithm, preset: 'none', out, config: all })) void event
  return out
}

const jsonOf = async (folder: string, file: string): Promise<Record<string, unknown>> =>
  JSON.parse(await readFile(join(folder, file), 'utf8')) as Record<string, unknown>

/** Every way to a policy of a run. */
const WAYS: Record<string, (run: string) => Promise<unknown>> = {
  evaluate: (run) => evaluate({ run, episodes: 1 }),
  'evaluate of the file': (run) =>
    evaluate({ policy: join(run, RUN_FILES.policy), env: 'point-circle', episodes: 1, cost_limit: 10 }),
  loadPolicy: (run) => loadPolicy(join(run, RUN_FILES.policy)),
  'loadPolicy in JavaScript': (run) => loadPolicy(join(run, RUN_FILES.policy), {}, { runtime: 'javascript' }),
  'loadPolicy of the folder': (run) => loadPolicy(run),
  export: (run) =>
    exportPolicy({ policy: join(run, RUN_FILES.policy), format: 'onnx', out: join(run, 'x.onnx'), overwrite: true }),
  report: (run) => writeReport(run),
  'report of several': (run) => compareReport([run, run], join(root, 'several.html')),
}

async function refused(t: ExecutionContext, way: string, work: Promise<unknown>, words: RegExp[]): Promise<void> {
  const error = await t.throwsAsync(work, { instanceOf: DrcorlError }, way)
  t.like(error, { code: 'Data', exitStatus: 2 }, way)
  for (const word of words) t.regex(error?.message ?? '', word, way)
}

test.serial('a policy and its run name each other', async (t) => {
  const run = await trained('own')
  const path = join(run, RUN_FILES.policy)
  const policy_files = [{ policy: 'last', file: RUN_FILES.policy, sha256: await sha256File(path) }]
  t.like(await jsonOf(run, RUN_FILES.certificate), { policy_files, cost_limit: 60 })
  t.like(await jsonOf(run, RUN_FILES.result), { policy_files, policies: [RUN_FILES.policy] })
  const { created, dataset } = await readRecord(run)
  t.like((await loadPolicy(run)).metadata, {
    algorithm: 'bc',
    name: 'last',
    cost_limit: '60',
    verdict: 'not certified',
    dataset_sha256: dataset.sha256,
    date: created.slice(0, 10),
  })
  t.is((await readRun(run)).provenance, 'verified')
  for (const [way, go] of Object.entries(WAYS)) await t.notThrowsAsync(go(run), way)
  t.is((await evaluate({ run, episodes: 1 })).provenance, 'verified')
})

test.serial('every policy that a run keeps has its row', async (t) => {
  const run = await trained('kept', {}, 'drcorl')
  const { policy_files, policies } = await jsonOf(run, RUN_FILES.certificate)
  const files = policy_files as { policy: string; file: string; sha256: string }[]
  t.deepEqual(
    files.map(({ policy }) => policy),
    Object.keys(policies as object),
  )
  for (const { policy, file, sha256 } of files) {
    t.is(sha256, await sha256File(join(run, file)))
    const { metadata } = await loadPolicy(join(run, file))
    // The verdict is on the policy that ships.
    t.like(metadata, { name: policy, verdict: file === RUN_FILES.policy ? 'not certified' : 'none' })
  }
})

test.serial('a policy of another run is refused by everything that opens it, with both hashes', async (t) => {
  const [run, other] = [await trained('certified', {}, 'bc_safe'), await trained('other', { seed: 3 })]
  await evaluate({ run, episodes: 1 })
  const path = join(run, RUN_FILES.policy)
  const [wanted, found] = [await sha256File(path), await sha256File(join(other, RUN_FILES.policy))]
  await cp(join(other, RUN_FILES.policy), path)
  const words = [/certified\/policy\.safetensors/, new RegExp(`its sha256 is ${found}, expected ${wanted}`)]
  for (const [way, go] of Object.entries(WAYS)) await refused(t, way, go(run), words)
  for (const args of [['evaluate'], ['report'], ['export', '--format', 'onnx', '--out', join(root, 'no.onnx')]]) {
    const { status, stdout } = await drcorl(...args, run, '--json')
    t.is(status, 2, args[0])
    t.like(JSON.parse(stdout), { error: { code: 'Data' } }, args[0])
  }
  // With its certificate it is refused all the same: the result names another one.
  await cp(join(other, RUN_FILES.certificate), join(run, RUN_FILES.certificate))
  for (const [way, go] of Object.entries(WAYS)) await refused(t, way, go(run), [/result\.json speaks of/, words[1]!])
})

test.serial(
  'a config.json of another limit or algorithm than the files beside it is refused by everything that reads it',
  async (t) => {
    const run = await trained('edited')
    await evaluate({ run, episodes: 1 })
    const record = await readRecord(run)
    const path = join(run, RUN_FILES.config)
    const readers = {
      evaluate: () => evaluate({ run, episodes: 1 }),
      report: () => writeReport(run),
      'report of several': () => compareReport([run, run], join(root, 'several.html')),
    }
    for (const [change, message] of [
      [
        { run: { ...record.run, cost_limit: 100 } },
        /certificate\.json has cost_limit = 60, but config\.json .* says 100/,
      ],
      [{ algorithm: 'bc_safe' }, /result\.json has algorithm = "bc", but config\.json .* says "bc_safe"/],
    ] as const) {
      await writeJson(path, { ...record, ...change })
      for (const [way, go] of Object.entries(readers)) await refused(t, way, go(), [message])
    }
    await writeJson(path, record)
    for (const [way, go] of Object.entries(readers)) await t.notThrowsAsync(go(), way)
  },
)

test.serial('a policy that the run does not name is none of its policies', async (t) => {
  const run = await trained('named')
  const selected = join(run, RUN_FILES.selected)
  await cp(join(run, RUN_FILES.policy), selected)
  const words = [/policy\.selected\.safetensors is no policy of the run it lies in: .* names policy\.safetensors/]
  await refused(t, 'evaluate', evaluate({ run, episodes: 1 }), words)
  await refused(t, 'loadPolicy', loadPolicy(selected), words)
  await refused(t, 'report', writeReport(run), words)
  // Nothing is said of files that are called otherwise.
  await cp(selected, join(run, 'mine.safetensors'))
  await t.notThrowsAsync(loadPolicy(join(run, 'mine.safetensors')))
  await rm(selected)
  await rm(join(run, RUN_FILES.policy))
  t.is((await readRun(run)).provenance, 'absent')
})

test.serial('a run of before names no hash: it opens, and is shown as unverified', async (t) => {
  const run = await trained('before')
  for (const file of [RUN_FILES.certificate, RUN_FILES.result]) {
    const { policy_files, ...before } = await jsonOf(run, file)
    t.truthy(policy_files)
    await writeJson(join(run, file), before)
  }
  for (const [way, go] of Object.entries(WAYS)) await t.notThrowsAsync(go(run), way)
  t.is((await evaluate({ run, episodes: 1 })).provenance, 'unverified')
  t.regex(await readFile(await writeReport(run), 'utf8'), /Unverified: the run names no sha256/)
  const { stdout } = await drcorl('report', run)
  t.regex(stdout, /before {2}unverified: the run names no sha256/)
  t.like(JSON.parse((await drcorl('report', run, '--json')).stdout), { runs: [{ provenance: 'unverified' }] })
})

test.serial('a certificate whose list is damaged is refused by name', async (t) => {
  const run = await trained('damaged')
  const certificate = await jsonOf(run, RUN_FILES.certificate)
  for (const policy_files of ['none', [null], [{ file: 7, sha256: 'a' }], [{ file: 'policy.safetensors' }]]) {
    await writeJson(join(run, RUN_FILES.certificate), { ...certificate, policy_files })
    await refused(t, 'loadPolicy', loadPolicy(run), [/certificate\.json: policy_files must be a list of objects/])
  }
  await writeFile(join(run, RUN_FILES.certificate), '{"policy_files":')
  await refused(t, 'loadPolicy', loadPolicy(run), [/certificate\.json is not valid JSON/])
})

test.serial('a measurement of another policy is refused by the report', async (t) => {
  const [run, other] = [await trained('measured'), await trained('other-measured', { seed: 4 })]
  await evaluate({ run: other, episodes: 1 })
  await cp(join(other, RUN_FILES.evaluation), join(run, RUN_FILES.evaluation))
  const sha256 = await sha256File(join(other, RUN_FILES.policy))
  const words = [/evaluation\.json was measured on another policy\.safetensors/, new RegExp(`was ${sha256}, expected`)]
  await refused(t, 'report', writeReport(run), words)
  await evaluate({ run, episodes: 1 })
  await t.notThrowsAsync(writeReport(run))
})

test.serial('exports name the policy they come from, and its verdict where it is still that policy', async (t) => {
  const run = await trained('exported', { cloning_mode: 'multi_task' })
  const policy = join(run, RUN_FILES.policy)
  const sha256 = await sha256File(policy)
  const exported = async (format: 'onnx' | 'tfjs' | 'safetensors', settings = {}): Promise<Record<string, string>> => {
    const { path } = await exportPolicy({ policy, format, out: join(run, 'e', format), settings, overwrite: true })
    const bytes = await readFile(path)
    if (format === 'safetensors') return Object.fromEntries(readSafetensors(bytes, path).metadata)
    if (format === 'tfjs') return (JSON.parse(bytes.toString()) as { userDefinedMetadata: never }).userDefinedMetadata
    // StringStringEntryProto: field 1 is the key, field 2 the value, each with its length.
    const entry = (key: string): string => {
      const head = Buffer.from([0x0a, key.length, ...Buffer.from(key)])
      const from = bytes.indexOf(head) + head.length
      return bytes.subarray(from + 2, from + 2 + bytes[from + 1]!).toString()
    }
    return Object.fromEntries(
      ['policy_sha256', 'verdict', 'cost_limit', 'dataset_sha256'].map((key) => [key, entry(key)]),
    )
  }
  const { dataset_sha256, cost_limit } = (await loadPolicy(policy)).metadata
  for (const format of ['onnx', 'tfjs'] as const) {
    const facts = { policy_sha256: sha256, verdict: 'not certified', dataset_sha256, cost_limit }
    t.like(await exported(format), facts, format)
    t.like(await exported(format, { cost_limit: 20 }), { ...facts, verdict: 'none' }, format)
  }
  t.deepEqual(await exported('safetensors'), { ...(await loadPolicy(policy)).metadata }, 'the very bytes')
  t.like(await exported('safetensors', { cost_limit: 20 }), { policy_sha256: sha256, verdict: 'none' })
})
