/** Exports: what is written is played by the runtimes of others and gives the policy's actions. */
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import * as fc from 'fast-check'
import { DrcorlError } from '../../src/base/errors.js'
import { type ExportFormat, exportPolicy } from '../../src/export/export.js'
import { type Runtime, openPolicy } from '../../src/export/open.js'
import { tfjsNodeRuns } from '../../src/export/play.js'
import { intoBox } from '../../src/export/tfjs.js'
import { loadPolicy } from '../../src/policy/node.js'
import { type Safetensors, readSafetensors, writeSafetensors } from '../../src/policy/safetensors.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { inProcess } from '../cli/spawn.js'
import { type PolicyOptions, drawObservations, drawPolicy, largestDifference } from '../policy/files.js'
import { smallConfig, trained } from '../small.js'
import { serialIf, skipped } from '../test-if.js'
import { RUNTIMES, haveRuntimes } from './runtimes.js'

/** Peers are found from the current folder. */
const home = process.cwd()
const installed = haveRuntimes()
if (installed) process.chdir(RUNTIMES)
if (!tfjsNodeRuns()) skipped('tfjs-node plays exports', `it does not run on Node ${process.versions.node}`)
const withRuntimes = serialIf(installed, 'the runtimes are not installed: node scripts/runtimes.mjs')

const folder = await mkdtemp(join(tmpdir(), 'drcorl-export-'))
let made = 0
const fresh = (name: string): string => join(folder, `${(made += 1)}`, name)

async function writePolicy(content: Safetensors): Promise<string> {
  const path = join(folder, `${(made += 1)}.safetensors`)
  await writeFile(path, writeSafetensors(content))
  return path
}

/** Every runtime an export is for. */
const PLAYED: Record<ExportFormat, readonly Runtime[]> = {
  safetensors: ['native', 'javascript'],
  onnx: ['onnxruntime-node'],
  tfjs: tfjsNodeRuns() ? ['tfjs', 'tfjs-node'] : ['tfjs'],
}

const POLICIES: Record<string, PolicyOptions> = {
  'two hidden layers': { widths: [17, 256, 256, 6] },
  'one hidden layer, outputs at the ends of the box': { widths: [8, 32, 2], gain: 10 },
  'no hidden layer': { widths: [3, 2] },
  'a clamp, outputs at the ends of the box': { widths: [5, 64, 64, 3], squash: 'clamp', gain: 4 },
  'a setting': { widths: [4, 32, 32, 2], condition: 12 },
  'one entry everywhere': { widths: [1, 1, 1] },
}

/** Plays 1,000 observations through every runtime of every export of `policy`, and holds them to the native actions. */
async function holdExports(t: ExecutionContext, policy: string, settings: Record<string, number>) {
  const content = readSafetensors(await readFile(policy), policy)
  const observations = drawObservations(content, 1000)
  const wanted = (await loadPolicy(policy, settings)).act(observations)
  const none = { rewards: new Float32Array(), costs: new Float32Array() }
  const [low, high] = ['action.low', 'action.high'].map((name) => content.tensors.get(name)!.values)
  for (const format of ['safetensors', 'onnx', 'tfjs'] as const) {
    const out = fresh(`policy.${format}`)
    const result = await exportPolicy({ policy, format, out, settings })
    t.is(result.check?.observations, 1000)
    t.true(result.check!.max_difference <= 1e-5)
    for (const runtime of PLAYED[format]) {
      const exported = await openPolicy(result.path, { runtime })
      t.is(exported.runtime, runtime)
      t.is(exported.obs_dim, result.obs_dim)
      t.is(exported.act_dim, result.act_dim)
      const given = await exported.act(observations, none)
      const difference = largestDifference(given, wanted, content)
      t.true(difference <= 1e-5, `${runtime}: ${difference}`)
      t.log(`${runtime} ${difference.toExponential(1)}`)
      const outside = given.findIndex((a, i) => !(a >= low![i % low!.length]! && a <= high![i % low!.length]!))
      t.is(outside, -1, `${runtime}: action ${given[outside]} is outside of the box`)
      const alone = await exported.act(observations.subarray(0, exported.obs_dim), none)
      t.true(largestDifference(alone, wanted.subarray(0, exported.act_dim), content) <= 1e-5)
    }
  }
}

for (const [name, options] of Object.entries(POLICIES)) {
  withRuntimes(`every export gives the native actions: ${name}`, async (t) => {
    const policy = await writePolicy(drawPolicy(options))
    await holdExports(t, policy, {})
    if (options.condition !== undefined) await holdExports(t, policy, { cost_limit: 30 })
  })
}

for (const [algorithm, config] of [
  ['drcorl', {}],
  ['bc', { cloning_mode: 'multi_task' }],
] as const) {
  withRuntimes(`every export of a trained policy gives its actions: ${algorithm}`, async (t) => {
    const out = join(folder, `run-${algorithm}`)
    const options = { dataset: 'env:point-circle?episodes=10', algorithm, preset: 'none', out }
    await trained({ ...options, config: smallConfig(algorithm, { cost_limit: 40, ...config }) })
    await holdExports(t, join(out, RUN_FILES.policy), {})

    const json = await inProcess('export', out, '--format', 'onnx', '--json')
    t.is(json.status, 0, json.stderr)
    const result = JSON.parse(json.stdout) as { path: string; check: { runtime: string } }
    t.is(result.path, join(out, 'export/policy.onnx'))
    t.is(result.check.runtime, 'onnxruntime-node')
    const again = await inProcess('export', out, '--format', 'onnx')
    t.is(again.status, 2)
    t.regex(again.stderr, /policy\.onnx is there already/)

    const native = await play('--json', out)
    const returns = [native]
    for (const runtime of [...PLAYED.tfjs, ...PLAYED.onnx]) {
      if (runtime === 'tfjs') t.is((await inProcess('export', out, '--format', 'tfjs')).status, 0)
      const file = join(out, 'export', runtime === 'onnxruntime-node' ? 'policy.onnx' : 'tfjs')
      returns.push(await play('--json', file, '--runtime', runtime, '--cost-limit', '40'))
      t.is(returns.at(-1)!.runtime, runtime)
    }
    for (const { return: played, cost_limit } of returns) {
      t.is(cost_limit, 40)
      t.true(Math.abs(played.mean - native.return.mean) < 1e-3 * Math.max(1, Math.abs(native.return.mean)))
    }
  })
}

interface Played {
  runtime: string
  cost_limit: number
  return: { mean: number }
}

async function play(...words: string[]): Promise<Played> {
  const { stdout } = await inProcess('evaluate', '--env', 'point-circle', '--episodes', '2', ...words)
  return JSON.parse(stdout) as Played
}

withRuntimes('the checker of the ONNX standard accepts every model', async (t) => {
  const models: string[] = []
  for (const options of Object.values(POLICIES)) {
    const out = fresh('policy.onnx')
    await exportPolicy({ policy: await writePolicy(drawPolicy(options)), format: 'onnx', out })
    models.push(out)
  }
  const program = `
import json, sys, onnx
from onnx import checker, shape_inference
for path in sys.argv[1:]:
    model = onnx.load(path)
    checker.check_model(model, full_check=True)
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    tensor = lambda v: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
    print(json.dumps({"in": tensor(inferred.graph.input[0]), "out": tensor(inferred.graph.output[0]),
                      "metadata": {p.key: p.value for p in model.metadata_props}}))
`
  const env = { ...process.env, PYTHONPATH: join(RUNTIMES, 'python') }
  const { status, stdout, stderr } = spawnSync('python3', ['-c', program, ...models], { encoding: 'utf8', env })
  t.is(status, 0, stderr)
  const lines = stdout.trim().split('\n')
  for (const [index, { widths, condition }] of Object.values(POLICIES).entries()) {
    const seen = JSON.parse(lines[index]!) as { in: unknown; out: unknown; metadata: Record<string, string> }
    t.deepEqual(seen.in, ['batch', widths[0]])
    t.deepEqual(seen.out, ['batch', widths.at(-1)])
    t.deepEqual([seen.metadata['setting.cost_limit']], [condition?.toString()])
    t.is(seen.metadata['format'], 'drcorl-policy/1')
  }
})

test('the map of TF.js into the box never leaves it, whatever rounding does', (t) => {
  const number = fc.float({ noNaN: true, min: Math.fround(-1e6), max: Math.fround(1e6) })
  const unit = fc.float({ noNaN: true, min: -1, max: 1 })
  const inside = fc.property(
    number,
    number,
    fc.array(unit),
    fc.constantFrom(-1 as const, 0 as const),
    (a, b, us, from) => {
      const [low, high] = [Math.min(a, b), Math.max(a, b)]
      const [scale, offset] = intoBox(low, high, from)
      return [-1, 1, ...us].every((u) => {
        const at = from === 0 ? Math.fround(u + 1) : u
        const action = Math.fround(offset + Math.fround(scale * at))
        const close =
          Math.abs(action - (low + ((u + 1) / 2) * (high - low))) <=
          1e-30 + 1e-6 * Math.max(Math.abs(low), Math.abs(high))
        return action >= low && action <= high && close
      })
    },
  )
  t.notThrows(() => fc.assert(inside, { numRuns: 2000 }))
})

test.serial('safetensors keep the bytes, or the asked setting in their place', async (t) => {
  const policy = await writePolicy(drawPolicy({ widths: [3, 8, 2], condition: 10 }))
  const [same, other] = [fresh('same.safetensors'), fresh('other.safetensors')]
  await exportPolicy({ policy, format: 'safetensors', out: same })
  t.deepEqual(await readFile(same), await readFile(policy))
  await exportPolicy({ policy, format: 'safetensors', out: other, settings: { cost_limit: 3 } })
  t.deepEqual((await loadPolicy(other)).settings, { cost_limit: 3 })
})

test.serial(
  'a policy file is evaluated where an environment is named, with options that mean something there',
  async (t) => {
    const policy = await writePolicy(drawPolicy({ widths: [8, 8, 2] }))
    for (const [words, status, said] of [
      [[policy], 2, /a policy file does not say which environment it is for/],
      [[policy, '--env', 'point-circle', '--policy', 'selected'], 2, /--policy chooses among the policies of a run/],
      [[policy, '--env', 'point-circle', '--runtime', 'tfjs'], 2, /tfjs does not play/],
      [[policy, '--env', 'point-circle', '--cost-limit', 'low'], 2, /--cost-limit "low" is not a number/],
      [
        [policy, '--env', 'point-circle', '--episodes', '1', '--runtime', 'javascript', '--cost-limit', '500'],
        0,
        / javascript /,
      ],
    ] as [string[], number, RegExp][]) {
      const ended = await inProcess('evaluate', ...words)
      t.is(ended.status, status, ended.stderr)
      t.regex(status === 0 ? ended.stdout : ended.stderr, said)
    }
  },
)

for (const format of ['xyz', 'toString']) {
  test(`an export to ${format} is refused by the formats there are`, async (t) => {
    const options = { policy: 'policy.safetensors', format: format as 'onnx', out: 'nowhere' }
    await t.throwsAsync(exportPolicy(options), { code: 'Usage', message: /is unknown; known: safetensors, onnx, tfjs/ })
  })
}

test.serial('an export is refused in one sentence, and leaves nothing', async (t) => {
  const good = await writePolicy(drawPolicy({ widths: [3, 8, 2] }))
  const drawn = drawPolicy({ widths: [3, 8, 2] })
  drawn.metadata.set('kind', 'sequence')
  const cases: [options: Partial<Parameters<typeof exportPolicy>[0]>, code: string, message: RegExp][] = [
    [{ policy: join(folder, 'absent.safetensors') }, 'Io', /cannot read .*absent\.safetensors/],
    [{ policy: await writePolicy(drawn) }, 'Data', /timestep_emb\.weight|kind "sequence"/],
    [{ settings: { cost_limit: 1 } }, 'Data', /cost_limit: is no setting of this policy; it has: none/],
  ]
  for (const format of ['onnx', 'tfjs'] as const) {
    for (const [options, code, message] of cases) {
      const out = fresh('out')
      const error = await t.throwsAsync(exportPolicy({ policy: good, format, out, ...options }), {
        instanceOf: DrcorlError,
      })
      t.is(error?.code, code as DrcorlError['code'])
      t.is(error?.exitStatus, 2)
      t.regex(error?.message ?? '', message)
      t.deepEqual(await readdir(join(out, '..')).catch(() => []), [])
    }
    const out = fresh('out')
    await exportPolicy({ policy: good, format, out })
    await t.throwsAsync(exportPolicy({ policy: good, format, out }), { message: /is there already/ })
    await exportPolicy({ policy: good, format, out, overwrite: true })
    t.deepEqual(await readdir(join(out, '..')), ['out'])
  }
  const stranger = await mkdtemp(join(folder, 'stranger-'))
  await writeFile(join(stranger, 'letter.txt'), 'keep me')
  const error = await t.throwsAsync(exportPolicy({ policy: good, format: 'tfjs', out: stranger, overwrite: true }))
  t.regex(error?.message ?? '', /folder without model\.json, which is not replaced/)
  t.deepEqual(await readdir(stranger), ['letter.txt'])
})

test.serial('a place that cannot be written is bad input, by path and with a remedy', async (t) => {
  const policy = await writePolicy(drawPolicy({ widths: [3, 8, 2] }))
  const file = fresh('file')
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, 'mine')
  await refuseToWrite(t, policy, join(file, 'policy.onnx'))
})

serialIf(process.platform === 'linux', 'this system has no place that root cannot write')(
  'a place that root cannot write is bad input too',
  async (t) => {
    await refuseToWrite(t, await writePolicy(drawPolicy({ widths: [3, 8, 2] })), '/proc/policy.onnx')
  },
)

async function refuseToWrite(t: ExecutionContext, policy: string, out: string): Promise<void> {
  const error = await t.throwsAsync(exportPolicy({ policy, format: 'onnx', out }), { instanceOf: DrcorlError })
  t.like(error, { code: 'Io', exitStatus: 2 })
  t.true(error?.message.includes(dirname(out)), error?.message)
}

test.serial('an exported folder has the mode that any new folder has', async (t) => {
  const policy = await writePolicy(drawPolicy({ widths: [3, 8, 2] }))
  const out = fresh('tfjs')
  await exportPolicy({ policy, format: 'tfjs', out })
  const plain = fresh('plain')
  await mkdir(plain, { recursive: true })
  t.is((await stat(out)).mode, (await stat(plain)).mode)
  t.deepEqual((await readdir(out)).toSorted(), ['model.json', 'weights.bin'])
})

test.serial('without a runtime the export says that it was not played, and evaluation what to install', async (t) => {
  const policy = await writePolicy(drawPolicy({ widths: [8, 8, 2] }))
  process.chdir(folder)
  try {
    for (const [format, needed] of [
      ['onnx', 'onnxruntime-node'],
      ['tfjs', '@tensorflow/tfjs'],
    ] as const) {
      const out = fresh(`policy.${format}`)
      const exported = await inProcess('export', policy, '--format', format, '--out', out)
      t.is(exported.status, 0, exported.stderr)
      t.regex(exported.stdout, /not played: no runtime for this format is installed/)
      const played = await inProcess('evaluate', out, '--env', 'point-circle')
      t.is(played.status, 2)
      t.regex(
        played.stderr,
        new RegExp(`error: playing .* needs .*${needed}, which is not installed\n +run: npm install`),
      )
    }
  } finally {
    process.chdir(installed ? RUNTIMES : home)
  }
})

withRuntimes('files that are no exported policy are refused in one sentence', async (t) => {
  const policy = await writePolicy(drawPolicy({ widths: [3, 8, 2] }))
  const tfjs = fresh('tfjs')
  await exportPolicy({ policy, format: 'tfjs', out: tfjs })
  await rm(join(tfjs, 'weights.bin'))
  const write = async (name: string, content: string): Promise<string> => {
    const path = join(folder, name)
    await writeFile(path, content)
    return path
  }
  const cases: [path: string, options: object, code: string, message: RegExp][] = [
    [join(tfjs, 'model.json'), {}, 'Io', /names .*weights\.bin, which cannot be read: no such file/],
    [await write('a.onnx', 'not a model'), {}, 'Data', /a\.onnx is no ONNX model/],
    [await write('a.json', '{}'), {}, 'Data', /a\.json is no layers model/],
    [await write('b.json', '{'), {}, 'Data', /b\.json is not valid JSON/],
    [await write('c.json', '{"modelTopology": {}, "weightsManifest": []}'), {}, 'Data', /c\.json is no layers model/],
    [await write('a.pt', ''), {}, 'Usage', /a\.pt is no policy file: expected \.safetensors, \.onnx or model\.json/],
    [policy, { runtime: 'tfjs' }, 'Usage', /tfjs does not play .*; it is for native or javascript/],
    [await write('d.onnx', ''), { settings: { cost_limit: 1 } }, 'Usage', /cost_limit was fixed when/],
  ]
  for (const [path, options, code, message] of cases) {
    const error = await t.throwsAsync(openPolicy(path, options), { instanceOf: DrcorlError })
    t.is(error?.code, code as DrcorlError['code'], error?.message)
    t.is(error?.exitStatus, 2)
    t.regex(error?.message ?? '', message)
    t.false(error?.message.includes('\n'))
  }
})
