// `node scripts/runtimes.mjs`: what the tests play exported policies with, in target/runtimes. onnxruntime-node,
// TensorFlow.js, tfjs-node built from source, and Python's onnx, whose checker knows the standard. Not dependencies of
// the repository: together they are 1.2 GB, and whoever only trains needs none.
// Running it again does only what is out of date.
//
// No install script runs. That of tfjs-node downloads a binary built for other Nodes; here its two source files are
// compiled against the C libraries of TensorFlow's Python wheel. That of onnxruntime-node fetches CUDA libraries;
// the CPU ones are in its package.
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { PIP, PYTHON, pipInstall } from './lib/python.mjs'
import { ask, fail, npm, ROOT, runQuietly, runSteps, StepError } from './lib/run.mjs'
import { hashOf, isFresh, setStamp } from './lib/stamp.mjs'

/** Where everything lies; `node_modules` in it is found by programs started there. */
const RUNTIMES = join(ROOT, 'target/runtimes')
const SOURCES = 'scripts/runtimes'
const TFJS_NODE = join(RUNTIMES, 'node_modules/@tensorflow/tfjs-node')
const TENSORFLOW = join(RUNTIMES, 'tensorflow')
const ONNX = 'onnx==1.23.2'
/** tfjs-node looks for the highest Node-API it knows, which every Node from 12 on has. */
const NODE_API = 8

async function platform() {
  if (process.platform === 'linux' && process.arch === 'x64') return `${process.platform} ${process.arch}`
  throw new StepError(`the wheel of TensorFlow is for Linux x64, here is ${process.platform} ${process.arch}`)
}

async function packages() {
  const names = ['package.json', 'package-lock.json']
  const hash = hashOf(names.map((name) => join(SOURCES, name)))
  if (isFresh('runtimes packages', hash) && existsSync(join(RUNTIMES, 'node_modules/.package-lock.json'))) return null
  mkdirSync(RUNTIMES, { recursive: true })
  for (const name of names) copyFileSync(join(ROOT, SOURCES, name), join(RUNTIMES, name))
  const flags = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
  await runQuietly('npm install', ...npm(['install', ...flags]), { cwd: RUNTIMES })
  setStamp('runtimes packages', hash)
  return 'onnxruntime-node, @tensorflow/tfjs'
}

async function tensorflow() {
  const hash = hashOf([join(SOURCES, 'tensorflow.txt'), join(SOURCES, 'tensorflow.py')])
  if (isFresh('runtimes tensorflow', hash) && existsSync(TENSORFLOW)) return null
  const wheels = join(RUNTIMES, 'wheels')
  const partial = `${TENSORFLOW}.partial`
  for (const folder of [wheels, partial, TENSORFLOW]) rmSync(folder, { recursive: true, force: true })
  mkdirSync(wheels, { recursive: true })
  const wheel = ['--implementation', 'cp', '--python-version', '3.11', '--platform', 'manylinux2014_x86_64']
  const what = ['--no-deps', '--only-binary=:all:', '--dest', wheels, '-r', join(SOURCES, 'tensorflow.txt')]
  await runQuietly('download', PYTHON, [...PIP, 'download', ...wheel, ...what], {
    // pip downloads to TMPDIR first; there is room here.
    env: { TMPDIR: wheels },
    note: () => 'a wheel of 207 MB',
  })
  await runQuietly('unpack', PYTHON, [join(SOURCES, 'tensorflow.py'), wheels, partial])
  renameSync(partial, TENSORFLOW)
  rmSync(wheels, { recursive: true, force: true })
  setStamp('runtimes tensorflow', hash)
  return 'libtensorflow_cc, libtensorflow_framework'
}

async function tfjsNode() {
  const compiler = [process.env.CXX, 'c++', 'g++', 'clang++'].filter(Boolean).find((name) => ask(name, ['--version']))
  if (compiler === undefined) throw new StepError('a C++ compiler is needed to build tfjs-node')
  const inputs = ['package-lock.json', 'tensorflow.txt', 'tensorflow.py'].map((name) => join(SOURCES, name))
  const hash = hashOf([...inputs, 'scripts/runtimes.mjs'], [ask(compiler, ['--version'])])
  const folder = join(TFJS_NODE, `lib/napi-v${NODE_API}`)
  const binding = join(folder, 'tfjs_binding.node')
  if (isFresh('runtimes tfjs-node', hash) && existsSync(binding)) return null
  const deps = join(TFJS_NODE, 'deps')
  if (!existsSync(deps)) symlinkSync(TENSORFLOW, deps)
  mkdirSync(folder, { recursive: true })
  const headers = [join(deps, 'include'), join(RUNTIMES, 'node_modules/node-api-headers/include')]
  await runQuietly('c++', compiler, [
    '-shared',
    '-fPIC',
    '-O2',
    '-std=c++14',
    `-DNAPI_VERSION=${NODE_API}`,
    '-o',
    binding,
    ...headers.flatMap((header) => ['-I', header]),
    ...['tfjs_backend.cc', 'tfjs_binding.cc'].map((name) => join(TFJS_NODE, 'binding', name)),
    '-L',
    join(deps, 'lib'),
    '-ltensorflow',
    '-ltensorflow_framework',
    '-Wl,-rpath,$ORIGIN/../../deps/lib',
  ])
  const probe = "const tf = require('@tensorflow/tfjs-node'); if (tf.getBackend() !== 'tensorflow') process.exit(1)"
  await runQuietly('load', process.execPath, ['-e', probe], { cwd: RUNTIMES })
  setStamp('runtimes tfjs-node', hash)
  return `tfjs_binding.node, ${Math.round(statSync(binding).size / 1e3)} kB, loads`
}

const onnx = () => pipInstall('runtimes onnx', [ONNX], join(RUNTIMES, 'python'), 'onnx.checker')

const STEPS = [
  ['platform', 'the one TensorFlow has a wheel for', platform],
  ['packages', 'npm packages of scripts/runtimes/package-lock.json', packages],
  ['tensorflow', 'C libraries of TensorFlow 2.15, 207 MB to fetch', tensorflow],
  ['tfjs-node', 'binding of tfjs-node 4.22, from source', tfjsNode],
  ['onnx', 'the Python package of the standard', onnx],
]

runSteps(STEPS, 'runtimes ready in').catch(fail)
