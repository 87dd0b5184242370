/** `loadPolicy`: the addon and JavaScript give the same actions, and bad files are refused in one sentence. */
import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import * as fc from 'fast-check'
import { DrcorlError, type ErrorCode } from '../../src/base/errors.js'
import { loadSchema } from '../../src/config/schema.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { loadPolicy as loadInBrowser } from '../../src/policy/browser.js'
import { loadPolicy } from '../../src/policy/node.js'
import { type Safetensors, readSafetensors, writeSafetensors } from '../../src/policy/safetensors.js'
import { RUN_FILES } from '../../src/train/run-folder.js'
import { smallConfig, trained } from '../small.js'
import { testIf } from '../test-if.js'
import { type PolicyOptions, drawObservations, drawPolicy, largestDifference } from './files.js'

/** Of the box's width. */
const TOLERANCE = 1e-6

const folder = await mkdtemp(join(tmpdir(), 'drcorl-policy-'))
let written = 0

async function writePolicy(content: Safetensors | Uint8Array): Promise<string> {
  const path = join(folder, `${(written += 1)}.safetensors`)
  await writeFile(path, content instanceof Uint8Array ? content : writeSafetensors(content))
  return path
}

const both = (path: string, settings: Record<string, number> = {}) =>
  Promise.all((['native', 'javascript'] as const).map((runtime) => loadPolicy(path, settings, { runtime })))

test('addon and JavaScript agree on networks of any shape', async (t) => {
  const width = fc.integer({ min: 1, max: 70 })
  const shapes = fc.record({
    widths: fc.tuple(width, fc.array(width, { maxLength: 3 }), width).map(([s, hidden, a]) => [s].concat(hidden, a)),
    seed: fc.nat(),
    squash: fc.constantFrom('tanh', 'clamp'),
    condition: fc.option(fc.double({ min: 0, max: 60, noNaN: true }), { nil: undefined }),
    gain: fc.constantFrom(0.1, 1, 10),
  }) as fc.Arbitrary<PolicyOptions>
  let largest = 0
  const agree = fc.asyncProperty(shapes, fc.integer({ min: 0, max: 40 }), async (options, rows) => {
    const content = drawPolicy(options)
    const [native, javascript] = await both(await writePolicy(content))
    t.is(native!.runtime, 'native')
    t.is(javascript!.runtime, 'javascript')
    t.deepEqual(javascript!.settings, native!.settings)
    t.deepEqual(javascript!.metadata, native!.metadata)
    const observations = drawObservations(content, rows, options.seed)
    const [wanted, given] = [native!.act(observations), javascript!.act(observations)]
    const difference = largestDifference(given, wanted, content)
    largest = Math.max(largest, difference)
    // Sums that grow tenfold lose a digit in either; the box is no measure of that.
    return difference <= TOLERANCE * Math.max(1, options.gain!)
  })
  await fc.assert(agree, { numRuns: 150 })
  t.log(`largest difference ${largest.toExponential(1)} of the box`)
})

const algorithms: [algorithm: string, config: Record<string, unknown>][] = [
  ...Object.keys(loadSchema().algorithms).map((name): [string, Record<string, unknown>] => [name, {}]),
  ['bc', { cloning_mode: 'multi_task' }],
]
/** Kinds seen among the algorithms' policies. */
const played: string[] = []

for (const [algorithm, config] of algorithms) {
  const title = [algorithm, ...Object.values(config)].join(' ')
  test.serial(
    `a trained policy of ${title} acts alike in both, or is refused by JavaScript with the reason`,
    async (t) => {
      const out = join(folder, `run-${title.replace(' ', '-')}`)
      const options = { dataset: 'env:point-circle?episodes=10', algorithm, preset: 'none', out }
      await trained({ ...options, config: smallConfig(algorithm, { cost_limit: 40, ...config }) })
      const path = join(out, RUN_FILES.policy)
      const content = readSafetensors(await readFile(path), path)
      const kind = content.metadata.get('kind') ?? 'mlp'
      played.push(kind)
      const native = await loadPolicy(path)
      t.is(native.runtime, 'native')
      if (kind !== 'mlp') {
        const error = await t.throwsAsync(loadPolicy(path, {}, { runtime: 'javascript' }), { instanceOf: DrcorlError })
        t.is(error?.code, 'Addon')
        t.regex(error?.message ?? '', new RegExp(`policy of kind "${kind}" is played by the native addon only`))
        return
      }
      const asked = Object.fromEntries(Object.keys(native.settings).map((name) => [name, 7]))
      for (const settings of [{}, asked]) {
        const [wanted, javascript] = await both(path, settings)
        const { observations } = makeDataset('point-circle', { episodes: 10 })
        const difference = largestDifference(javascript!.act(observations), wanted!.act(observations), content)
        t.true(difference <= TOLERANCE, `difference ${difference}`)
      }
    },
  )
}

test.serial('most algorithms are playable without the addon', (t) => {
  t.true(played.filter((kind) => kind === 'mlp').length >= 4, played.join(' '))
})

for (const spread of ['constant', 'learnt'] as const) {
  test(`a Gaussian of ${spread} deviation plays its mean everywhere, and draws in the addon alone`, async (t) => {
    const content = drawPolicy({ widths: [4, 16, 2], spread })
    const path = join(folder, `gaussian-${spread}.safetensors`)
    await writeFile(path, writeSafetensors(content))
    const observations = drawObservations(content, 500)
    const native = await loadPolicy(path, {}, { runtime: 'native' })
    const mean = native.act(observations)
    const javascript = await loadPolicy(path, {}, { runtime: 'javascript' })
    t.true(largestDifference(javascript.act(observations), mean, content) <= TOLERANCE)
    const draws = (await loadPolicy(path, { sample: 1 }, { runtime: 'native' })).act(observations)
    const [low, high] = ['action.low', 'action.high'].map((name) => content.tensors.get(name)!.values)
    t.true(draws.every((value, i) => value >= low![i % 2]! && value <= high![i % 2]! && value !== mean[i]))
    const refused = await t.throwsAsync(loadPolicy(path, { sample: 1 }, { runtime: 'javascript' }), {
      instanceOf: DrcorlError,
    })
    t.is(refused?.code, 'Addon')
    t.regex(refused?.message ?? '', /sample is 1: only the native addon draws/)
    for (const runtime of ['native', 'javascript'] as const) {
      await t.throwsAsync(loadPolicy(path, { sample: -1 }, { runtime }), { message: /sample/ })
    }
  })
}

test('one observation, a batch, plain numbers and the array of the caller are one function', async (t) => {
  const content = drawPolicy({ widths: [5, 32, 32, 3] })
  const observations = drawObservations(content, 9)
  const path = await writePolicy(content)
  for (const policy of [...(await both(path)), await loadInBrowser(writeSafetensors(content))]) {
    const together = policy.act(observations)
    t.is(together.length, 9 * 3)
    const alone = Array.from({ length: 9 }, (_, row) => [...policy.act(observations.subarray(row * 5, row * 5 + 5))])
    t.deepEqual(alone.flat(), [...together])
    t.deepEqual(policy.act([...observations]), together)
    const own = new Float32Array(9 * 3)
    policy.actInto(observations, own)
    t.deepEqual(own, together)
    t.is(policy.act(new Float32Array()).length, 0)
  }
})

test('actions are not written over what is still being read', async (t) => {
  const content = drawPolicy({ widths: [3, 8, 3] })
  const path = await writePolicy(content)
  for (const policy of await both(path)) {
    const memory = new Float32Array(24)
    const observations = memory.subarray(6, 12)
    for (const from of [1, 6, 11]) {
      const overlapping = memory.subarray(from, from + 6)
      t.throws(() => policy.actInto(observations, overlapping), { code: 'Shape', message: /overlap the observations/ })
    }
    t.deepEqual(
      [...memory],
      Array.from({ length: 24 }, () => 0),
      'nothing is written',
    )
    for (const from of [0, 12]) policy.actInto(observations, memory.subarray(from, from + 6))
    t.deepEqual(memory.slice(0, 6), policy.act(observations))
    t.deepEqual(memory.slice(12, 18), policy.act(observations))
  }
  const native = await loadPolicy(path, {}, { runtime: 'native' })
  const actions = new Float32Array(6)
  const feedback = { rewards: actions.subarray(0, 2), costs: new Float32Array(2) }
  t.throws(() => native.actInto(new Float32Array(6), actions, feedback), {
    code: 'Shape',
    message: /overlap the rewards/,
  })
})

test('a policy comes from a path, a file address or bytes', async (t) => {
  const content = drawPolicy({ widths: [3, 8, 2] })
  const [path, bytes] = [await writePolicy(content), writeSafetensors(content)]
  const observations = drawObservations(content, 4)
  const wanted = (await loadPolicy(path)).act(observations)
  t.deepEqual((await loadPolicy(pathToFileURL(path))).act(observations), wanted)
  // In the middle of another buffer, at an odd place.
  const shifted = new Uint8Array(bytes.length + 3).subarray(3)
  shifted.set(bytes)
  for (const source of [bytes, bytes.buffer, shifted]) {
    const policy = await loadPolicy(source)
    t.is(policy.runtime, 'javascript')
    t.true(largestDifference(policy.act(observations), wanted, content) <= TOLERANCE)
  }
  await t.throwsAsync(loadPolicy(bytes, {}, { runtime: 'native' }), { message: /give a path/ })
})

test('wrong input to a policy is refused alike by both', async (t) => {
  const path = await writePolicy(drawPolicy({ widths: [3, 8, 2] }))
  for (const policy of await both(path)) {
    const refusal = (call: () => unknown) => t.throws(call, { instanceOf: DrcorlError }, policy.runtime)
    const ragged = refusal(() => policy.act(new Float32Array(4)))
    t.is(ragged?.code, 'Shape')
    t.regex(ragged?.message ?? '', /observations: has 4 values, not a multiple of the 3/, policy.runtime)
    const nan = refusal(() => policy.act([0, 1, 2, 3, Number.NaN, 5]))
    t.is(nan?.code, 'Data')
    t.regex(nan?.message ?? '', /observations: value 4 \(row 1, entry 1\) is NaN/)
    const narrow = refusal(() => policy.actInto(new Float32Array(3), new Float32Array(3)))
    t.is(narrow?.code, 'Shape')
    t.regex(narrow?.message ?? '', /actions: has 3 values, expected 1 rows of 2/)
  }
  for (const runtime of ['native', 'javascript'] as const) {
    const conditioned = await writePolicy(drawPolicy({ widths: [3, 8, 2], condition: 10 }))
    for (const [settings, message] of [
      [{ limit: 1 }, /limit: is no setting of this policy; it has: cost_limit/],
      [{ cost_limit: Number.NaN }, /cost_limit: is NaN, expected a number/],
    ] as const) {
      const error = await t.throwsAsync(loadPolicy(conditioned, settings, { runtime }), { instanceOf: DrcorlError })
      t.is(error?.exitStatus, 2)
      t.regex(error?.message ?? '', message, runtime)
    }
  }
})

const good = (): Safetensors => drawPolicy({ widths: [3, 8, 2] })
const changed = (change: (content: Safetensors) => unknown): Safetensors => {
  const content = good()
  change(content)
  return content
}
const first = (content: Safetensors, name: string, value: number): void =>
  void (content.tensors.get(name)!.values[0] = value)

const BAD: [what: string, content: Safetensors | Uint8Array, code: ErrorCode, message: RegExp][] = [
  ['nothing', new Uint8Array(), 'Data', /is not a safetensors file, or is truncated \(0 bytes/],
  ['text', new TextEncoder().encode('not a policy at all'), 'Data', /is not a safetensors file/],
  ['a cut file', writeSafetensors(good()).subarray(0, 500), 'Data', /truncated \(500 bytes/],
  ['a byte too many', Uint8Array.of(...writeSafetensors(good()), 0), 'Data', /is not a safetensors file/],
  [
    'another format',
    changed(({ metadata }) => metadata.set('format', 'x/2')),
    'Data',
    /format: is "x\/2", this version/,
  ],
  ['no format', changed(({ metadata }) => metadata.delete('format')), 'Data', /format: is missing/],
  ['another kind', changed(({ metadata }) => metadata.set('kind', 'tree')), 'Data', /kind: is "tree", this version/],
  ['another output', changed(({ metadata }) => metadata.set('output_activation', 'sin')), 'Data', /output_activation/],
  [
    'a setting that is text',
    changed(({ metadata }) => metadata.set('setting.x', 'far')),
    'Data',
    /setting\.x: is "far"/,
  ],
  [
    'a missing tensor',
    changed(({ tensors }) => tensors.delete('observation.std')),
    'Data',
    /observation\.std: is missing/,
  ],
  [
    'a missing layer',
    changed(({ tensors }) => tensors.delete('actor.0.weight')),
    'Data',
    /actor\.0\.weight: is missing/,
  ],
  ['a missing bias', changed(({ tensors }) => tensors.delete('actor.1.bias')), 'Data', /actor\.1\.bias: is missing/],
  [
    'a stray tensor',
    changed(({ tensors }) => tensors.set('actor.3.bias', { shape: [1], values: new Float32Array(1) })),
    'Data',
    /actor\.3\.bias: is not a tensor of this format/,
  ],
  [
    'NaN',
    changed((content) => first(content, 'actor.0.weight', Number.NaN)),
    'Data',
    /actor\.0\.weight: value 0 is NaN/,
  ],
  [
    'std 0',
    changed((content) => first(content, 'observation.std', 0)),
    'Data',
    /observation\.std: value 0 is 0, not pos/,
  ],
  ['a crossed box', changed((content) => first(content, 'action.low', 9)), 'Data', /action\.low: value 0 is 9, above/],
  [
    'layers that do not fit',
    changed(({ tensors }) => tensors.set('actor.1.weight', { shape: [2, 7], values: new Float32Array(14) })),
    'Shape',
    /actor\.1\.weight: has shape \[2, 7\], expected \[2, 8\]/,
  ],
  [
    'a box of another size',
    changed(({ tensors }) => tensors.set('action.high', { shape: [3], values: new Float32Array(3) })),
    'Shape',
    /action\.high: has 3 entries, expected 2/,
  ],
]

for (const [what, content, code, message] of BAD) {
  test(`refused in one sentence by both: ${what}`, async (t) => {
    const path = await writePolicy(content)
    for (const runtime of ['native', 'javascript'] as const) {
      const error = await t.throwsAsync(loadPolicy(path, {}, { runtime }), { instanceOf: DrcorlError })
      t.is(error?.code, code, runtime)
      t.is(error?.exitStatus, 2)
      t.true(error?.message.startsWith(`${path}: `), `${runtime}: ${error?.message}`)
      t.regex(error?.message ?? '', message, runtime)
    }
  })
}

test('a file of another type of number, and one that is not there', async (t) => {
  const bytes = writeSafetensors(good())
  const text = Buffer.from(bytes).toString('latin1').replaceAll('"F32"', '"I32"')
  const path = await writePolicy(Buffer.from(text, 'latin1'))
  for (const runtime of ['native', 'javascript'] as const) {
    await t.throwsAsync(loadPolicy(path, {}, { runtime }), { message: /has the type I32, expected F32/ })
    const absent = join(folder, 'absent.safetensors')
    const error = await t.throwsAsync(loadPolicy(absent, {}, { runtime }), { instanceOf: DrcorlError })
    t.is(error?.code, 'Io')
    t.is(error?.exitStatus, 2)
    t.regex(error?.message ?? '', /absent\.safetensors/)
  }
})

test('both refuse the same damaged files', async (t) => {
  const bytes = writeSafetensors(drawPolicy({ widths: [3, 8, 2], condition: 10 }))
  const flip = fc.asyncProperty(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
    const damaged = bytes.slice()
    damaged[at]! ^= mask
    const path = await writePolicy(damaged)
    const load = (runtime: 'native' | 'javascript') =>
      loadPolicy(path, {}, { runtime }).catch((error: unknown) => {
        t.true(error instanceof DrcorlError && error.code !== 'Internal', String(error))
        return null
      })
    const [native, javascript] = [await load('native'), await load('javascript')]
    // Weights have no checksum: a file may be damaged and yet a policy, and both must then read the same one.
    t.deepEqual(javascript?.metadata, native?.metadata)
    t.deepEqual(javascript?.settings, native?.settings)
  })
  await fc.assert(flip, { numRuns: 300 })
})

test('what is no regular file, or larger than a policy can be, is refused before it is read', async (t) => {
  const sparse = await writePolicy(drawPolicy({ widths: [3, 4, 2] }))
  await truncate(sparse, 3 * 2 ** 30)
  await refuse(t, [
    [sparse, 'Data', /has 3221225472 bytes, a policy at most 268435456/],
    [folder, 'Io', /it is no regular file/],
  ])
})

testIf(process.platform === 'linux', 'this system has no such files')(
  'a pipe and a file without end are refused before they are read',
  async (t) => {
    const pipe = join(folder, 'pipe')
    t.is(spawnSync('mkfifo', [pipe]).status, 0)
    await refuse(t, [
      [pipe, 'Io', /it is no regular file/],
      ['/dev/zero', 'Io', /it is no regular file/],
    ])
  },
)

async function refuse(t: ExecutionContext, cases: readonly [string, ErrorCode, RegExp][]): Promise<void> {
  const before = process.memoryUsage.rss()
  for (const [path, code, message] of cases) {
    for (const runtime of ['native', 'javascript'] as const) {
      await t.throwsAsync(loadPolicy(path, {}, { runtime }), { instanceOf: DrcorlError, code, message }, path)
    }
  }
  t.true(process.memoryUsage.rss() - before < 2 ** 28)
}

test('a browser reads no further than a policy can go', async (t) => {
  const original = globalThis.fetch
  t.teardown(() => (globalThis.fetch = original))
  const chunk = new Uint8Array(2 ** 24)
  let sent = 0
  const endless = new ReadableStream({
    pull(controller) {
      sent += chunk.length
      controller.enqueue(chunk)
    },
  })
  globalThis.fetch = () => Promise.resolve(new Response(endless))
  await t.throwsAsync(loadInBrowser('http://nowhere/policy.safetensors'), { message: /more than 268435456 bytes/ })
  t.true(sent < 2 ** 29)
})

test.serial('policies that nobody holds any more are freed: the garbage collector knows their size', async (t) => {
  const path = await writePolicy(drawPolicy({ widths: [3, 1600, 1600, 2] }))
  const before = process.memoryUsage.rss()
  let most = 0
  for (let policy = 0; policy < 120; policy += 1) {
    await loadPolicy(path, {}, { runtime: 'native' })
    most = Math.max(most, process.memoryUsage.rss() - before)
  }
  // 120 of 10 MB each; what is left is what the collector has not come round to.
  t.true(most < 600 * 2 ** 20, `${(most / 2 ** 20).toFixed(0)} MiB`)
})
