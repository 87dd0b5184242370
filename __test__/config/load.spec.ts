import { mkdtemp, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test, { type ExecutionContext } from 'ava'
import * as fc from 'fast-check'
import { stringify } from 'yaml'
import { DrcorlError } from '../../src/base/errors.js'
import {
  type ResolveOptions,
  type ResolvedConfig,
  parseFlag,
  readConfigFile,
  resolveConfig,
} from '../../src/config/load.js'
import { allowedValues, parametersFor } from '../../src/config/schema.js'
import { FIXTURE } from './fixture.js'
import { testIf } from '../test-if.js'

const resolve = (options: ResolveOptions): ResolvedConfig => resolveConfig({ schema: FIXTURE, ...options })

function refused(t: ExecutionContext, options: ResolveOptions): string {
  const error = t.throws(() => resolve(options), { instanceOf: DrcorlError })
  t.is(error?.code, 'Config')
  t.is(error?.exitStatus, 2)
  return `${error?.message} | ${error?.hint ?? ''}`
}

const temporaryFile = async (name: string, content: string): Promise<string> => {
  const path = join(await mkdtemp(join(tmpdir(), 'drcorl-config-')), name)
  await writeFile(path, content)
  return path
}

test('defaults < preset < file < flags, each key by its own source', (t) => {
  const file = { path: 'exp.yaml', values: { gamma: 0.9, cost_limit: 20, seed: 3 } }
  const resolved = resolve({ preset: 'quick', file, flags: { seed: 4 } })
  t.deepEqual(resolved.run, { seed: 4, cost_limit: 20, device: 'auto', episode_length: null })
  t.like(resolved.config, { behavior_steps: 8000, gate: 'max', gamma: 0.9, normalise: true })
  t.deepEqual(resolved.config['hidden'], [256, 256])
  t.deepEqual(resolved.origins, {
    cost_limit: 'file exp.yaml',
    behavior_steps: 'preset quick',
    gate: 'preset quick',
    gamma: 'file exp.yaml',
    seed: 'flag --seed',
  })
})

test('a preset may have other values for a task, which files and flags win over', (t) => {
  const asked = { preset: 'paper', flags: { cost_limit: 1, gamma: 0.8 } }
  const ball = resolve({ ...asked, task: 'BallCircle' })
  t.like(ball.config, { behavior_steps: 3000000, gamma: 0.8 })
  t.like(ball.origins, { behavior_steps: 'preset paper for BallCircle', gamma: 'flag --gamma' })
  for (const task of ['CarRun', 'constructor', undefined]) {
    t.is(resolve({ ...asked, task }).config['behavior_steps'], 2000000)
  }
  t.is(resolve({ preset: 'quick', task: 'BallCircle' }).config['gamma'], 0.99)
})

test('the published scripts of DRCORL are one preset', (t) => {
  const of = (task?: string): Record<string, unknown> => resolveConfig({ preset: 'release', task }).config
  t.like(of('CarRun'), { cost_step: 'lagrangian_pid', actor_lr: 1e-4, actor_lr_final: 1e-4, adaptation_steps: 4000 })
  t.like(of('PointGoal1'), { cost_step: 'cost', actor_lr: 1e-5, critic_lr: 1e-4, actor_batch: 256 })
  t.deepEqual(of('AntVelocity'), of())
})

test('a flag equal to a default still wins over preset and file', (t) => {
  const file = { path: 'exp.yaml', values: { behavior_steps: 7 } }
  t.is(resolve({ preset: 'quick', file, flags: { behavior_steps: 100 } }).config['behavior_steps'], 100)
  t.is(resolve({ preset: 'quick', flags: { gate: 'critic_ucb' } }).config['gate'], 'critic_ucb')
  const nulled = { path: 'exp.yaml', values: { episode_length: 200 } }
  t.is(resolve({ preset: 'quick', file: nulled, flags: { episode_length: null } }).run['episode_length'], null)
})

test('quick is the preset of an algorithm that has it; none leaves the defaults', (t) => {
  t.is(resolve({}).preset, 'quick')
  t.is(resolve({ algorithm: 'bc', flags: { cost_limit: 1 } }).preset, null)
  const plain = resolve({ preset: 'none', flags: { cost_limit: 1 } })
  t.is(plain.preset, null)
  t.is(plain.config['behavior_steps'], 100)
})

test('the resolved config shares nothing with the schema', (t) => {
  const hidden = resolve({}).config['hidden'] as number[]
  hidden.push(1)
  t.deepEqual(resolve({}).config['hidden'], [256, 256])
})

test('an unknown key names its source and the nearest key', (t) => {
  t.regex(
    refused(t, { flags: { behaviour_steps: 5 } }),
    /^behaviour_steps is not .*flag --behaviour_steps.*mean behavior_steps/,
  )
  const file = { path: 'exp.yaml', values: { 'cost-limit': 5 } }
  t.regex(refused(t, { file }), /^cost-limit .* \(from file exp\.yaml\); did you mean cost_limit/)
  t.notRegex(refused(t, { flags: { zzzzzzzzzz: 5 } }), /did you mean/)
})

test('a string of another form is refused with the form', (t) => {
  t.regex(refused(t, { flags: { device: 'gpu' } }), /device is "gpu" .*give a text matching \^\(auto\|cpu\)\$/)
})

test('a key of another algorithm is told apart from a mistyped one', (t) => {
  t.regex(refused(t, { flags: { bc_steps: 5 } }), /bc_steps .*parameter of bc, not of drcorl.*--algorithm bc/)
})

test('a bad value names key, value, range and source', (t) => {
  t.regex(refused(t, { flags: { cost_limit: -3 } }), /cost_limit is -3 .*flag --cost_limit.*number of at least 0/)
  t.regex(refused(t, { flags: { gamma: 1 } }), /gamma is 1 .*number of at least 0 and below 1/)
  t.regex(refused(t, { flags: { behavior_steps: 1.5 } }), /behavior_steps is 1\.5 .*integer from 1 to 1000000000/)
  t.regex(refused(t, { flags: { gate: 'min' } }), /gate is "min".*one of "critic_ucb", "max"/)
  t.regex(refused(t, { flags: { clip: 'both' } }), /clip is "both".*one of "value", "norm", or null/)
  t.regex(refused(t, { flags: { hidden: [256, 0] } }), /hidden is \[256,0\].*list of integers of at least 1/)
  t.regex(refused(t, { flags: { pid: [1, 2] } }), /pid is \[1,2\].*list of 3 numbers/)
  t.regex(refused(t, { flags: { normalise: 'yes' } }), /normalise is "yes".*true or false/)
  const file = { path: 'exp.yaml', values: { seed: '1' } }
  t.regex(refused(t, { file }), /seed is "1" .*file exp\.yaml/)
  t.regex(refused(t, { flags: { gamma: Number.NaN } }), /gamma is NaN/)
  t.regex(refused(t, { flags: { seed: 2 ** 60 } }), /seed is 1152921504606847000 .*9007199254740991/)
})

test('a required parameter without a value is named', (t) => {
  t.regex(refused(t, { preset: 'none' }), /cost_limit is missing; give a number of at least 0.*--cost_limit/)
})

test('unknown algorithms and presets list the known ones', (t) => {
  t.regex(refused(t, { algorithm: 'drcor' }), /unknown algorithm "drcor".*"drcorl".*Known: drcorl, bc/)
  t.regex(refused(t, { preset: 'quik' }), /unknown preset "quik".*"quick".*quick, paper, none/)
})

test('names that every object has are unknown like any other', (t) => {
  for (const name of ['toString', '__proto__', 'constructor']) {
    t.regex(refused(t, { algorithm: name }), /unknown algorithm/)
    t.regex(refused(t, { preset: name }), /unknown preset/)
    t.regex(refused(t, { flags: Object.fromEntries([[name, 1]]) }), new RegExp(`^${name} is not a parameter of drcorl`))
  }
})

test('a config file is YAML or JSON, a mapping, with algorithm and preset beside the parameters', async (t) => {
  const yaml = await readConfigFile(await temporaryFile('a.yaml', 'algorithm: bc\npreset: none\nbc_steps: 1e3\n'))
  t.like(yaml, { algorithm: 'bc', preset: 'none', values: { bc_steps: 1000 } })
  const json = await readConfigFile(await temporaryFile('a.json', '{"hidden": [1, 2]}'))
  t.deepEqual(json.values, { hidden: [1, 2] })
  t.deepEqual((await readConfigFile(await temporaryFile('empty.yaml', ''))).values, {})
})

test('a broken config file is one clear error', async (t) => {
  const cases: [name: string, content: string, message: RegExp][] = [
    ['list.yaml', '- 1\n', /must be a mapping/],
    ['twice.yaml', 'seed: 1\nseed: 2\n', /cannot be parsed: .*unique/],
    ['bad.json', '{"seed": ', /cannot be parsed/],
    ['algorithm.yaml', 'algorithm: 3\n', /algorithm must be a name, got 3/],
  ]
  for (const [name, content, message] of cases) {
    const error = await t.throwsAsync(readConfigFile(await temporaryFile(name, content)), { message })
    t.is((error as DrcorlError).exitStatus, 2)
    t.false(error?.message.includes('\n'))
  }
  const missing = await t.throwsAsync(readConfigFile('/no/such/file.yaml'), { message: /no such file/ })
  t.is((missing as DrcorlError).exitStatus, 2)
})

/** Names that every object has, which are no parameters for that. */
const INHERITED = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']

test('keys that objects inherit are unknown parameters like any other, from YAML and JSON', async (t) => {
  for (const key of INHERITED) {
    for (const [name, content] of [
      ['a.yaml', `${key}: 1\n`],
      ['a.json', `{"${key}": 1}`],
      ['config.json', `{"run": {"${key}": 1}, "config": {}}`],
    ] as const) {
      const file = await readConfigFile(await temporaryFile(name, content))
      const message = new RegExp(`^${key} is not a parameter of drcorl \\(from file `)
      t.regex(refused(t, { preset: 'none', file, flags: { cost_limit: 1 } }), message)
    }
    t.deepEqual(parametersFor(FIXTURE, key), parametersFor(FIXTURE, 'none'))
  }
})

test('numbers that are not finite are refused by name, as they were written', async (t) => {
  for (const [text, shown] of [
    ['.inf', 'Infinity'],
    ['-.inf', '-Infinity'],
    ['.nan', 'NaN'],
  ]) {
    const single = await readConfigFile(await temporaryFile('a.yaml', `cost_limit: ${text}\n`))
    t.regex(
      refused(t, { file: single }),
      new RegExp(`^cost_limit is ${shown} \\(from file .*give a number of at least 0`),
    )
    const inList = await readConfigFile(await temporaryFile('a.yaml', `pid: [0, ${text}, 0]\n`))
    t.regex(refused(t, { file: inList }), new RegExp(`^pid is \\[0,${shown},0\\] `))
  }
})

const TOO_LONG = { code: 'Data', message: /is too long: it may have 65536 bytes/ }

test('a file of 100,000 keys is refused at once', async (t) => {
  const keys = Array.from({ length: 100_000 }, (_, index) => `key_${index}: 1\n`).join('')
  const started = performance.now()
  for (const path of [await temporaryFile('long.yaml', keys), await temporaryFile('long.json', keys)]) {
    await t.throwsAsync(readConfigFile(path), TOO_LONG)
  }
  t.true(performance.now() - started < 5000)
})

testIf(process.platform === 'linux', 'this system has no file without end')(
  'a file without end is refused at once',
  async (t) => {
    await t.throwsAsync(readConfigFile('/dev/zero'), TOO_LONG)
  },
)

test('the config.json of a run repeats it, without applying its preset again', async (t) => {
  const first = resolve({ preset: 'quick', flags: { behavior_steps: 5 } })
  const file = await readConfigFile(await temporaryFile('config.json', JSON.stringify(first)))
  const again = resolve({ file })
  t.deepEqual([again.run, again.config], [first.run, first.config])
})

test('flag text becomes the type its parameter wants', (t) => {
  const parameters = new Map(parametersFor(FIXTURE, 'drcorl').map((parameter) => [parameter.name, parameter]))
  const parse = (name: string, text: string): unknown => {
    const parameter = parameters.get(name)
    return parameter === undefined ? t.fail(name) : parseFlag(text, parameter)
  }
  t.is(parse('gamma', '.5'), 0.5)
  t.is(parse('behavior_steps', '2e3'), 2000)
  t.is(parse('behavior_steps', '0x10'), '0x10')
  t.is(parse('gamma', ''), '')
  t.is(parse('episode_length', 'none'), null)
  t.is(parse('device', 'none'), 'none')
  t.deepEqual(parse('hidden', '64, 32'), [64, 32])
  t.deepEqual(parse('hidden', '[64,32]'), [64, 32])
  t.is(parse('clip', 'norm'), 'norm')
  t.is(parse('clip', 'null'), null)
})

test('what a parameter allows is told in words', (t) => {
  const words = Object.fromEntries(parametersFor(FIXTURE, 'drcorl').map((p) => [p.name, allowedValues(p)]))
  t.like(words, {
    seed: 'an integer from 0 to 9007199254740991',
    episode_length: 'an integer of at least 1, or null',
    gate: 'one of "critic_ucb", "max"',
    clip: 'one of "value", "norm", or null',
    hidden: 'a list of integers of at least 1',
    normalise: 'true or false',
  })
})

const anyConfig = fc.record(
  {
    seed: fc.nat(),
    cost_limit: fc.double({ min: 0, max: 1e6, noNaN: true }),
    episode_length: fc.option(fc.integer({ min: 1, max: 1e6 }), { nil: null }),
    behavior_steps: fc.integer({ min: 1, max: 1e9 }),
    gamma: fc.double({ min: 0, max: 0.999, noNaN: true }),
    gate: fc.constantFrom('critic_ucb', 'max'),
    normalise: fc.boolean(),
    hidden: fc.array(fc.integer({ min: 1, max: 4096 }), { minLength: 1, maxLength: 4 }),
    clip: fc.constantFrom('value', 'norm', null),
  },
  { requiredKeys: [] },
)

test('property: whatever is set comes through file and flags unchanged, and only that', async (t) => {
  await fc.assert(
    fc.asyncProperty(anyConfig, anyConfig, async (inFile, inFlags) => {
      const file = await readConfigFile(await temporaryFile('a.yaml', stringify(inFile)))
      const parameters = new Map(parametersFor(FIXTURE, 'drcorl').map((parameter) => [parameter.name, parameter]))
      const flags: Record<string, unknown> = {}
      for (const [name, value] of Object.entries(inFlags)) {
        const parameter = parameters.get(name)
        const text = Array.isArray(value) ? value.join(',') : String(value)
        if (parameter) flags[name] = typeof value === 'boolean' ? value : parseFlag(text, parameter)
      }
      const resolved = resolve({ preset: 'quick', file, flags })
      const base = resolve({ preset: 'quick' })
      const wanted = { ...base.run, ...base.config, ...inFile, ...inFlags }
      // Text and YAML know no negative zero.
      const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
      t.deepEqual(plain({ ...resolved.run, ...resolved.config }), plain(wanted))
    }),
    { numRuns: 100 },
  )
})
