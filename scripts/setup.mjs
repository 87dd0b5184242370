// `npm run setup`, also behind `npm run demo` and `npm test`: everything a fresh clone lacks. Running it again does
// only what is out of date. It needs nothing but Node's own modules.
import { existsSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { ADDONS } from './lib/addons.mjs'
import { fetchLibtorch, libtorchDir, libtorchEnv, libtorchIsThere } from './lib/libtorch.mjs'
import { hostTriple, PLATFORMS } from './lib/platforms.mjs'
import { PYTHON } from './lib/python.mjs'
import { ask, fail, npm, ROOT, runQuietly, runSteps, StepError } from './lib/run.mjs'
import { hashOf, isFresh, setStamp } from './lib/stamp.mjs'

const NODE = [20, 19]
const RUST = [1, 89]

const versionOf = (text) => (/(\d+)\.(\d+)/.exec(text ?? '') ?? []).slice(1).map(Number)
const older = ([major, minor], [wantMajor, wantMinor]) =>
  major < wantMajor || (major === wantMajor && minor < wantMinor)

/** rustup installs to ~/.cargo/bin; a shell opened before that does not know it yet. */
function findCargo() {
  const bin = join(homedir(), '.cargo/bin')
  if (ask('cargo', ['--version']) === null && existsSync(join(bin, 'cargo'))) {
    process.env.PATH = `${bin}${delimiter}${process.env.PATH}`
  }
}

function platformProblems() {
  const here = `${process.platform} ${process.arch}`
  if (process.platform === 'linux') {
    const glibc = process.report.getReport().header.glibcVersionRuntime
    if (glibc === undefined || older(versionOf(glibc), [2, 28])) {
      return [
        `libtorch needs glibc 2.28 or newer, here is ${glibc ?? 'musl'}: use a newer Debian, Ubuntu or Fedora image`,
      ]
    }
  }
  if (hostTriple() === undefined) {
    return [`there is no libtorch for ${here}; drcorl is built for ${Object.keys(PLATFORMS).join(', ')}`]
  }
  return []
}

function checkTools() {
  findCargo()
  const problems = platformProblems()
  const need = (text, remedy) => problems.push(`${text}\n      ${remedy}`)
  if (older(versionOf(process.versions.node), NODE)) {
    need(`Node ${NODE.join('.')} or newer is needed, this is ${process.versions.node}`, 'see https://nodejs.org')
  }
  const rust = ask('rustc', ['--version'])
  if (rust === null || ask('cargo', ['--version']) === null || older(versionOf(rust), RUST)) {
    need(
      `Rust ${RUST.join('.')} or newer is needed, found: ${rust ?? 'none'}`,
      'see https://rustup.rs, or: rustup update stable',
    )
  }
  if (problems.length === 0 && !libtorchIsThere() && ask(PYTHON, ['-m', 'pip', '--version']) === null) {
    need('Python 3 with pip is needed to fetch libtorch', 'for instance: sudo apt install python3-pip')
  }
  const compilers = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean)
  const compiler = compilers.find((name) => ask(name, ['--version']) !== null)
  if (compiler === undefined) {
    need('a C++ compiler is needed for the Torch bindings', 'for instance: sudo apt install g++')
  }
  if (problems.length > 0)
    throw new StepError(`setup cannot go on:\n${problems.map((text) => `  - ${text}`).join('\n')}`)
  return `Node ${process.versions.node}, ${rust.split(' ').slice(0, 2).join(' ')}, ${compiler}`
}

async function npmInstall() {
  const hash = hashOf(['package-lock.json'], [process.versions.modules])
  if (isFresh('npm', hash) && existsSync(join(ROOT, 'node_modules/.package-lock.json'))) return null
  // Not `npm ci`: it refuses a lock file without the optional binaries of other platforms, and a registry mirror that
  // does not carry them makes such lock files. Versions and checksums of the lock hold here too, and it is not written.
  const [command, args] = npm(['install', '--no-save', '--no-audit', '--no-fund', '--loglevel=error'])
  await runQuietly('npm install', command, args)
  setStamp('npm', hash)
  return 'node_modules'
}

async function libtorch() {
  if (libtorchIsThere()) return process.env.LIBTORCH ? `LIBTORCH=${libtorchDir()}` : null
  await fetchLibtorch()
  return 'vendor/libtorch'
}

async function native() {
  const inputs = [
    'crates',
    'Cargo.toml',
    'Cargo.lock',
    '.cargo',
    'vendor/libtorch/build-version',
    'scripts/build-native.mjs',
  ]
  const hash = hashOf(inputs, [libtorchDir(), ask('rustc', ['--version']) ?? ''])
  const addons = () => readdirSync(ROOT).filter((name) => name.endsWith('.node'))
  if (isFresh('native', hash) && addons().length === ADDONS.length) return null
  await runQuietly('cargo build', process.execPath, ['scripts/build-native.mjs'], { env: libtorchEnv() })
  setStamp('native', hash)
  return addons().join(', ')
}

async function typescript() {
  const inputs = ['src', 'index.d.ts', 'package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.build.json']
  const hash = hashOf([...inputs, 'scripts/build-ts.mjs'])
  if (isFresh('typescript', hash) && existsSync(join(ROOT, 'dist/index.js'))) return null
  await runQuietly('tsc', process.execPath, ['scripts/build-ts.mjs'])
  setStamp('typescript', hash)
  return 'dist'
}

const STEPS = [
  ['tools', 'look for Node, Rust, Python and a C++ compiler', checkTools],
  ['packages', 'npm packages of package-lock.json', npmInstall],
  ['libtorch', 'CPU libraries of PyTorch', libtorch],
  ['native', 'Rust core and Node addons, minutes the first time', native],
  ['typescript', 'src to dist', typescript],
]

runSteps(STEPS, 'setup done in').catch(fail)
