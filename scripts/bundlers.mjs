// `node scripts/bundlers.mjs`: a program that imports drcorl, through the bundlers people use and under Jest, as
// docs/install.md says to configure them, and a table of what ran.
// Not part of `npm test`: it installs the newest of each.
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fail, npm, ROOT, runQuietly } from './lib/run.mjs'

const FOLDER = join(ROOT, 'target/bundlers')
const PACKAGES = ['esbuild', 'webpack', 'webpack-cli', 'vite', 'rollup', 'jest', 'yaml', 'yargs']
const PROGRAM = `import { VERSION, loadDataset, loadSchema } from 'drcorl'
async function main() {
  const { native } = await loadDataset('env:point-circle?episodes=1')
  console.log('works', VERSION, Object.keys(loadSchema().algorithms).length, native.columns().rewards.length)
}
main()
`
const TEST = `import { loadDataset } from 'drcorl'
test('a dataset', async () => {
  expect((await loadDataset('env:point-circle?episodes=1')).native.columns().rewards.length).toBe(200)
})
`
const FILES = {
  'app.mjs': PROGRAM,
  'app.test.mjs': TEST,
  'webpack.config.cjs': `module.exports = { mode: 'production', target: 'node', entry: './app.mjs',
  output: { path: __dirname + '/out', filename: 'webpack.cjs' }, externals: { drcorl: 'commonjs drcorl' } }`,
  'ssr.config.mjs': `export default { build: { ssr: 'app.mjs', outDir: 'out/ssr' } }`,
  'lib.config.mjs': `export default { build: { lib: { entry: 'app.mjs', formats: ['es'], fileName: 'lib' }, outDir: 'out/lib',
  rollupOptions: { external: ['drcorl', /^node:/] } } }`,
  'jest.config.cjs': `module.exports = { testMatch: ['**/*.test.mjs'], transform: {},
  moduleFileExtensions: ['js', 'mjs', 'cjs', 'json', 'node'] }`,
}

const node = (...args) => [process.execPath, args]
const bin = (name, ...args) => [join(FOLDER, 'node_modules/.bin', name), args]
const esbuild = (format, out) =>
  bin(
    'esbuild',
    'app.mjs',
    '--bundle',
    '--platform=node',
    `--format=${format}`,
    '--external:drcorl',
    `--outfile=${out}`,
  )
/** What is run, one after the other; the last prints `works`, or is a test. */
const WAYS = {
  'plain Node': [node('app.mjs')],
  'esbuild, esm': [esbuild('esm', 'out/esbuild.mjs'), node('out/esbuild.mjs')],
  'esbuild, cjs': [esbuild('cjs', 'out/esbuild.cjs'), node('out/esbuild.cjs')],
  webpack: [bin('webpack'), node('out/webpack.cjs')],
  'Vite, SSR': [bin('vite', 'build', '-c', 'ssr.config.mjs'), node('out/ssr/app.mjs')],
  'Vite, library': [bin('vite', 'build', '-c', 'lib.config.mjs'), node('out/lib/lib.mjs')],
  Rollup: [bin('rollup', 'app.mjs', '--external', 'drcorl', '--file', 'out/rollup.mjs'), node('out/rollup.mjs')],
  Jest: [node('--experimental-vm-modules', 'node_modules/jest/bin/jest.js')],
}

function attempt(commands) {
  let output = ''
  for (const [command, args] of commands) {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: FOLDER, encoding: 'utf8' })
    output = `${stdout}${stderr}`
    if (status !== 0) return `fails: ${output.trim().split('\n').slice(-3).join(' ').slice(0, 200)}`
  }
  return /^works |1 passed/m.test(output) ? 'works' : `says something else: ${output.slice(0, 200)}`
}

async function main() {
  rmSync(FOLDER, { recursive: true, force: true })
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(join(FOLDER, 'package.json'), '{"private": true}')
  for (const [name, text] of Object.entries(FILES)) writeFileSync(join(FOLDER, name), text)
  await runQuietly('npm install', ...npm(['install', '--no-audit', '--no-fund', ...PACKAGES]), { cwd: FOLDER })
  const own = join(FOLDER, 'node_modules/drcorl')
  for (const name of [
    'dist',
    'index.d.ts',
    'package.json',
    ...readdirSync(ROOT).filter((file) => file.endsWith('.node')),
  ]) {
    cpSync(join(ROOT, name), join(own, name), { recursive: true })
  }
  const results = Object.entries(WAYS).map(([way, commands]) => [way, attempt(commands)])
  for (const [way, result] of results) console.log(`${way.padEnd(16)} ${result}`)
  process.exitCode = results.every(([, result]) => result === 'works') ? 0 : 1
}

main().catch(fail)
