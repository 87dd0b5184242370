import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import test from 'ava'
import { VERSION } from '../../src/base/version.js'
import { presetValues, resolveConfig } from '../../src/config/load.js'
import { loadSchema, parametersFor } from '../../src/config/schema.js'
import { CLI, drcorl, inProcess, run, temporaryFolder } from './spawn.js'

const COMMANDS = ['train', 'evaluate', 'envs', 'data', 'list', 'info', 'doctor', 'torch', 'report', 'demo', 'theory']

test('--help of every command and --version end with status 0 and a silent stderr', async (t) => {
  for (const args of [[], ...COMMANDS.map((command) => [command])]) {
    const { status, stdout, stderr } = await inProcess(...args, '--help')
    t.is(status, 0, args.join(' '))
    t.is(stderr, '')
    t.regex(stdout, /--json/)
    for (const command of args.length === 0 ? COMMANDS : []) t.regex(stdout, new RegExp(`drcorl ${command}\\b`))
  }
  t.is((await inProcess('--version')).stdout.trim(), VERSION)
})

test('help shows the parameters of every run, and an algorithm’s own when it is named', async (t) => {
  const schema = loadSchema()
  const general = Object.keys(schema.run.schema.properties ?? {})
  const plain = (await inProcess('train', '--help')).stdout
  for (const name of general) t.true(plain.includes(`--${name} `), name)
  for (const algorithm of Object.keys(schema.algorithms)) {
    const { stdout } = await inProcess('train', '--help', '--algorithm', algorithm)
    for (const { name } of parametersFor(schema, algorithm))
      t.true(stdout.includes(`--${name} `), `${algorithm} ${name}`)
  }
})

/** The text of one option in a help, with its line ends undone. */
function optionText(help: string, name: string): string {
  const [, text = ''] = new RegExp(`--${name} ([^]*?)(?=\\n +--|\\n\\n)`).exec(help) ?? []
  return text.replace(/\s+/g, ' ')
}

test('help prints the defaults that are in force, under the preset asked for or the default one', async (t) => {
  const schema = loadSchema()
  for (const [algorithm, { presets }] of Object.entries(schema.algorithms)) {
    for (const [preset, flags] of [
      ['quick', []],
      [Object.keys(presets).find((name) => name !== 'quick') ?? 'quick', ['--preset']],
    ] as const) {
      const asked = flags.length === 0 ? [] : [...flags, preset]
      const { stdout } = await inProcess('train', '--help', '--algorithm', algorithm, ...asked)
      const resolved = resolveConfig({ algorithm, preset })
      for (const [name, value] of Object.entries({ ...resolved.run, ...resolved.config })) {
        const by = resolved.origins[name] === undefined ? '' : ` by preset ${preset}`
        t.true(
          optionText(stdout, name).includes(`default ${JSON.stringify(value)}${by}`),
          `${algorithm} ${preset} ${name}`,
        )
      }
    }
  }
})

/** Command line, what the one line of the error says, and what the hint says. */
const MISTAKES: [args: string[], message: RegExp, hint?: RegExp][] = [
  [[], /no command is given/, /drcorl --help/],
  [['trian'], /unknown command "trian"; did you mean train\?/],
  [['train'], /no dataset is given/, /--dataset/],
  [['train', '--data-set', 'x'], /unknown option --data-set; did you mean --dataset\?/, /drcorl train --help/],
  [['train', '--cost_limt', '1'], /unknown option --cost_limt; did you mean --cost_limit\?/],
  [['train', 'x.hdf5'], /unknown argument "x.hdf5"/, /name the data: drcorl train --dataset x\.hdf5/],
  [
    ['train', 'a/log.csv'],
    /unknown argument "a\/log.csv"/,
    /convert it first: drcorl data convert a\/log\.csv log\.hdf5/,
  ],
  [['train', '--dataset', 'a', '--env', 'b'], /mutually exclusive/],
  [['train', '--dataset', 'a', '--cost-limit'], /Not enough arguments following: cost_limit/],
  [['train', '--dataset', 'a', '--cost-limit=-1'], /cost_limit is -1 .*flag --cost_limit.*from 0 to/],
  [['train', '--dataset', 'a', '--cost-limit', 'ten'], /cost_limit is "ten" .*number/],
  [['train', '--dataset', 'a', '--algorithm', 'drcor'], /unknown algorithm "drcor".*"drcorl"/],
  [['train', '--dataset', 'a', '--preset', 'fast'], /unknown preset "fast".*Known: quick/],
  [['train', '--dataset', '/nowhere/a.hdf5'], /cannot read dataset \/nowhere\/a\.hdf5: no such file/],
  [['train', '--dataset', '/'], /\/: is a directory, not a file; give the path of one file/],
  [['train', '--env', 'point-cicle'], /point-cicle.*point-circle/],
  [['train', '--dataset', 'a', '--toString', '1'], /unknown option --toString/],
  [['train', '--dataset', 'a', '--constructor', '1'], /unknown option --constructor/],
  [['train', '--dataset', 'a', '--__proto__', '1'], /unknown (option|argument)/],
  [['train', '--dataset', 'a', '--algorithm', 'constructor'], /unknown algorithm "constructor"/],
  [['train', '--resume'], /resume needs the folder/, /--out/],
  [['train', '--resume', '/nowhere'], /not a run folder/],
  [['train', '--resume', 'a', '--out', 'b'], /two folders/],
  [['train', '--resume', 'a', '--overwrite'], /mutually exclusive/],
  [['train', '--dataset', 'a', '--checkpoint-seconds', '0'], /--checkpoint-seconds 0 is not above 0/],
  [['evaluate'], /Not enough non-option arguments/],
  [['evaluate', '/nowhere'], /\/nowhere is not a run folder/],
  [['evaluate', '/nowhere', '--env', 'point-circle', '--episodes', 'many'], /--episodes "many" is not a number/],
  [['data'], /Not enough non-option arguments/],
  [['data', 'info'], /no dataset is given/, /--task NAME/],
  [['data', 'constructor', 'x'], /Given: "constructor", Choices: "info"/],
  [['data', 'pull', 'x'], /Given: "pull", Choices: "info"/],
  [['train', '--dataset', 'a', '--task', 'BallCircle'], /mutually exclusive/],
  [['train', '--task', 'BalCircle'], /unknown task "BalCircle"; did you mean BallCircle\?/],
  [['data', 'info', '/nowhere.hdf5'], /cannot read dataset \/nowhere\.hdf5/],
  [['list', 'things'], /Given: "things"/],
]

test('bad input is one line with a remedy, status 2, and an empty stdout', async (t) => {
  for (const [args, message, hint] of MISTAKES) {
    const { status, stdout, stderr } = await inProcess(...args)
    const [first = '', ...others] = stderr.trimEnd().split('\n')
    t.is(status, 2, `${args.join(' ')}: ${stderr}`)
    t.is(stdout, '')
    t.regex(first, /^error: /)
    t.regex(first, message)
    t.true(others.length <= 1 && others.every((line) => line.startsWith('  ')), stderr)
    if (hint) t.regex(others.join(''), hint)
  }
})

test('escape sequences in names reach no terminal', async (t) => {
  const name = '/nowhere/\u001b]0;title\u0007\u001b[2K\r.hdf5'
  const { stderr } = await inProcess('train', '--dataset', name)
  t.true(stderr.includes('/nowhere/\\x1b]0;title\\x07\\x1b[2K\\x0d.hdf5'), stderr)
  t.notRegex(stderr, /[^\P{Cc}\n]/u)
})

test('the process itself exits with that status', async (t) => {
  const bad = await drcorl('train')
  t.is(bad.status, 2)
  t.regex(bad.stderr, /^error: no dataset is given\n/)
  t.is(bad.stdout, '')
  t.is((await drcorl('--version')).stdout, `${VERSION}\n`)
})

test('with --json the error is the one object on stdout, and stderr is silent', async (t) => {
  for (const [args, message] of MISTAKES.slice(0, 12)) {
    const { status, stdout, stderr } = await inProcess(...args, '--json')
    t.is(status, 2)
    t.is(stderr, '')
    const { error } = JSON.parse(stdout) as { error: { code: string; message: string } }
    t.regex(error.message, message)
    t.regex(error.code, /^(Usage|Config|Io|Data)$/)
  }
})

test('a config file is refused by name, file and value', async (t) => {
  const path = join(await temporaryFolder(), 'exp.yaml')
  await writeFile(path, 'cost_limit: -4\n')
  const { status, stderr } = await inProcess('train', '--env', 'point-circle', '--config', path)
  t.is(status, 2)
  t.true(stderr.includes(`cost_limit is -4 (from file ${path}); give a number from 0 to 1000000000`), stderr)
})

test('list shows algorithms with the preset in force, presets, the 38 tasks and the environments, as text and as JSON', async (t) => {
  const { stdout } = await inProcess('list', '--json')
  const lists = JSON.parse(stdout) as Record<string, Record<string, unknown>[]>
  t.deepEqual(Object.keys(lists), ['algorithms', 'presets', 'tasks', 'environments'])
  t.is(lists['tasks']?.length, 38)
  t.deepEqual(
    lists['algorithms']?.map((row) => row['algorithm']),
    Object.keys(loadSchema().algorithms),
  )
  for (const { algorithm, default_preset } of lists['algorithms']!) {
    const name = String(algorithm)
    const inForce = presetValues(loadSchema(), name, undefined)
    t.is(default_preset, inForce.preset, `the preset of ${name} that is in force where none is asked for`)
    const { stdout: help } = await inProcess('train', '--help', '--algorithm', name)
    t.true(help.replace(/\s+/g, ' ').includes(` by preset ${String(default_preset)})`), `${name}: the help agrees`)
  }
  const text = (await inProcess('list', 'tasks')).stdout
  t.regex(text, /BallCircle +OfflineBallCircle-v0 +bullet_safety_gym/)
  t.false(text.includes('point-circle'))
})

test('info tells versions, and works whether or not the addon loads', async (t) => {
  const { status, stdout } = await inProcess('info', '--json')
  t.is(status, 0)
  t.like(JSON.parse(stdout), { drcorl: VERSION, node: process.version })
})

test('a reader that leaves early is no error', async (t) => {
  const command = `${CLI.map((word) => `'${word}'`).join(' ')} list | head -n 1`
  const { status, stdout, stderr } = await run('bash', ['-o', 'pipefail', '-c', command])
  t.is(status, 0)
  t.is(stdout, 'algorithms\n')
  t.is(stderr, '')
})
