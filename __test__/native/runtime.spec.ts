import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { loadRuntime } from '../../src/native/addons.js'
import { EPISODE, EPISODES, columns } from './columns.js'

const { NativeDataset, NativePolicy, panicOnPurpose, preload } = loadRuntime()

const folder = mkdtempSync(join(tmpdir(), 'drcorl-native-'))

const codeOf = (error: unknown) => (error as { code?: string }).code

test('a file that is missing or is no HDF5 is refused by name', async (t) => {
  const missing = await t.throwsAsync(NativeDataset.open(join(folder, 'absent.hdf5')))
  t.is(codeOf(missing), 'Io')
  t.regex(missing.message, /absent\.hdf5/)

  const path = join(folder, 'text.hdf5')
  writeFileSync(path, 'not a dataset')
  const foreign = await t.throwsAsync(NativeDataset.open(path))
  t.is(codeOf(foreign), 'Data')
  t.regex(foreign.message, /text\.hdf5/)
})

test('columns survive the way to Rust and back', (t) => {
  const given = columns()
  const dataset = NativeDataset.fromColumns(given)
  t.deepEqual(dataset.columns(), given)
  const summary = JSON.parse(dataset.summary()) as Record<string, unknown>
  t.is(summary['transitions'], EPISODE * EPISODES)
  t.is(summary['episodes'], EPISODES)
})

test('columns that disagree are refused by name', (t) => {
  const error = t.throws(() => NativeDataset.fromColumns({ ...columns(), rewards: new Float32Array(3) }))
  t.is(codeOf(error), 'Data')
  t.regex(error.message, /made in the test.*rewards/)
})

test('a panic in native code is an error, not the end of the process', async (t) => {
  const error = await t.throwsAsync(panicOnPurpose())
  t.is(codeOf(error), 'Panic')
  t.regex(error.message, /on purpose/)
})

const OBS = 3
const HIDDEN = 5
const ACT = 2
const value = (index: number) => Math.sin(index * 0.7) * 0.8

const TENSORS: Record<string, { shape: number[]; data: number[] }> = {
  'actor.0.weight': { shape: [HIDDEN, OBS], data: Array.from({ length: HIDDEN * OBS }, (_, i) => value(i)) },
  'actor.0.bias': { shape: [HIDDEN], data: Array.from({ length: HIDDEN }, (_, i) => value(i + 20)) },
  'actor.1.weight': { shape: [ACT, HIDDEN], data: Array.from({ length: ACT * HIDDEN }, (_, i) => value(i + 40)) },
  'actor.1.bias': { shape: [ACT], data: [0.1, -0.2] },
  'observation.mean': { shape: [OBS], data: [0.5, -1, 2] },
  'observation.std': { shape: [OBS], data: [1, 0.5, 3] },
  'action.low': { shape: [ACT], data: [-1, 0] },
  'action.high': { shape: [ACT], data: [1, 10] },
}

function writePolicy(path: string): void {
  const header: Record<string, unknown> = {
    __metadata__: {
      format: 'drcorl-policy/1',
      hidden_activation: 'relu',
      output_activation: 'tanh',
      algorithm: 'drcorl',
      name: 'test',
      created_by: 'runtime.spec.ts',
    },
  }
  const values: number[] = []
  for (const [name, { shape, data }] of Object.entries(TENSORS)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [values.length * 4, (values.length + data.length) * 4] }
    values.push(...data)
  }
  const text = JSON.stringify(header)
  const json = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  writeFileSync(path, Buffer.concat([length, json, Buffer.from(Float32Array.from(values).buffer)]))
}

/** The definition of the policy file, in plain arithmetic. */
function expectedActions(observations: Float32Array): number[] {
  const tensor = (name: string) => TENSORS[name]!.data
  const affine = (layer: number, input: number[]) =>
    tensor(`actor.${layer}.bias`).map((bias, row) =>
      input.reduce((sum, x, i) => sum + tensor(`actor.${layer}.weight`)[row * input.length + i]! * x, bias),
    )
  const actions: number[] = []
  for (let start = 0; start < observations.length; start += OBS) {
    const row = Array.from(observations.slice(start, start + OBS))
    const input = row.map((x, i) => (x - tensor('observation.mean')[i]!) / tensor('observation.std')[i]!)
    const hidden = affine(0, input).map((x) => Math.max(x, 0))
    const [low, high] = [tensor('action.low'), tensor('action.high')]
    actions.push(...affine(1, hidden).map((x, i) => low[i]! + ((Math.tanh(x) + 1) / 2) * (high[i]! - low[i]!)))
  }
  return actions
}

test('a policy answers as its file defines', (t) => {
  const path = join(folder, 'policy.safetensors')
  writePolicy(path)
  const policy = NativePolicy.load(path)
  t.is(policy.obs_dim, OBS)
  t.is(policy.act_dim, ACT)
  t.like(JSON.parse(policy.metadata), { format: 'drcorl-policy/1', created_by: 'runtime.spec.ts' })

  const observations = Float32Array.from({ length: 7 * OBS }, (_, i) => Math.cos(i))
  const actions = policy.act(observations)
  const expected = expectedActions(observations)
  t.is(actions.length, 7 * ACT)
  for (const [i, action] of actions.entries()) t.true(Math.abs(action - expected[i]!) < 1e-5, `action ${i}`)

  const written = new Float32Array(7 * ACT)
  policy.actInto(observations, written)
  t.deepEqual(written, actions)
  // The first result is the caller's: later calls leave it alone.
  policy.act(new Float32Array(OBS))
  t.deepEqual(written, actions)
  t.is(policy.act(new Float32Array(0)).length, 0)
})

test('arrays that do not fit a policy are refused', (t) => {
  const path = join(folder, 'policy.safetensors')
  writePolicy(path)
  const policy = NativePolicy.load(path)
  t.is(codeOf(t.throws(() => policy.act(new Float32Array(OBS + 1)))), 'Shape')
  t.is(codeOf(t.throws(() => policy.actInto(new Float32Array(OBS), new Float32Array(ACT + 1)))), 'Shape')
  t.is(codeOf(t.throws(() => policy.act(Float32Array.of(0, Number.NaN, 0)))), 'Data')
  const shared = new Float32Array(OBS)
  t.is(codeOf(t.throws(() => policy.actInto(shared, shared.subarray(0, ACT)))), 'Shape')
})

test('a policy file that is missing or foreign is refused by name', (t) => {
  const missing = t.throws(() => NativePolicy.load(join(folder, 'absent.safetensors')))
  t.is(codeOf(missing), 'Io')
  t.regex(missing.message, /absent\.safetensors/)
  const path = join(folder, 'foreign.safetensors')
  writeFileSync(path, 'text')
  const foreign = t.throws(() => NativePolicy.load(path))
  t.is(codeOf(foreign), 'Data')
  t.regex(foreign.message, /foreign\.safetensors/)
})

test('a library that cannot be opened is refused by name', (t) => {
  const missing = t.throws(() => preload([join(folder, 'libabsent.so')]))
  t.is(codeOf(missing), 'Io')
  t.regex(missing.message, /libabsent\.so/)
  const foreign = join(folder, 'libforeign.so')
  writeFileSync(foreign, 'text')
  t.regex(t.throws(() => preload([foreign])).message, /libforeign\.so/)
})
