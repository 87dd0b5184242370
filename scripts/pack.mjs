// Makes the tarballs that are published: the root package, and the packages of this machine's platform.
//
//   node scripts/pack.mjs [root] [platform]     both, unless one is named
//
// Output: target/packages/*.tgz, and manifests.json with every package the root names, built here or not. Needs what
// `npm run setup` makes. The release workflow runs `platform` on each platform and `root` on one.
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { ADDONS, addonFile } from './lib/addons.mjs'
import { hasLicences, libtorchDir } from './lib/libtorch.mjs'
import { platformManifest, platformManifests, rootManifest, tarballName } from './lib/packages.mjs'
import { hostTriple, PLATFORMS } from './lib/platforms.mjs'
import { fail, npm, ROOT, runQuietly, StepError } from './lib/run.mjs'

const OUT = join(ROOT, 'target/packages')
const STAGE = join(OUT, 'stage')
/** Upper bounds of the tarballs, in bytes: 1 MB is the promise; npm refuses somewhere above 200 MB. */
const LIMITS = { drcorl: 1e6, runtime: 3e6, core: 10e6, 'libtorch-cpu': 150e6 }
/**
 * What no package may hold: dist is plain, uncompressed output of tsc that needs no source maps,
 * and without src they lead nowhere.
 */
const UNWANTED = /\.(map|tsbuildinfo|tgz)$|(?<!\.d)\.ts$|__pycache__|(^|\/)\./

const sizeOf = (path) => statSync(path).size
const megabytes = (bytes) => (bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`)

function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/** An empty folder with the manifest in it. */
function stage(manifest) {
  const folder = join(STAGE, manifest.name.replaceAll(/[@/]/g, '_'))
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  return folder
}

/** Runs `npm pack` in a staged folder; the tarball appears whole or not at all. */
async function pack(manifest, folder) {
  const [command, args] = npm(['pack', '--ignore-scripts', '--pack-destination', STAGE])
  await runQuietly(`pack ${manifest.name}`, command, args, { cwd: folder })
  const file = tarballName(manifest)
  renameSync(join(STAGE, file), join(OUT, file))
  rmSync(folder, { recursive: true })
  return join(OUT, file)
}

async function packRoot() {
  const manifest = rootManifest()
  const folder = stage(manifest)
  for (const name of [...manifest.files, 'README.md', 'LICENSE', 'CHANGELOG.md']) {
    if (!existsSync(join(ROOT, name))) throw new StepError(`${name} is missing: run npm run setup first`)
    cpSync(join(ROOT, name), join(folder, name), { recursive: true })
  }
  const strange = filesIn(folder).filter((path) => UNWANTED.test(path.slice(folder.length + 1)))
  if (strange.length > 0) throw new StepError(`these would be published with ${manifest.name}:\n${strange.join('\n')}`)
  return pack(manifest, folder)
}

/** Removes what only debuggers and linkers read. A fifth of libtorch; the dynamic symbols stay. */
async function strip(path) {
  if (process.platform === 'win32') return
  const args = process.platform === 'darwin' ? ['-x', path] : ['--strip-unneeded', path]
  await runQuietly(`strip ${path}`, 'strip', args)
  // strip breaks the signature without which macOS loads nothing on arm64.
  if (process.platform === 'darwin') await runQuietly(`sign ${path}`, 'codesign', ['--force', '--sign', '-', path])
}

async function packAddon({ kind, ...names }, triple) {
  const manifest = platformManifest(kind, triple)
  const addon = addonFile(names, triple)
  if (!existsSync(join(ROOT, addon))) throw new StepError(`${addon} is missing: run npm run setup first`)
  const folder = stage(manifest)
  copyFileSync(join(ROOT, addon), join(folder, addon))
  await strip(join(folder, addon))
  copyFileSync(join(ROOT, 'LICENSE'), join(folder, 'LICENSE'))
  writeFileSync(join(folder, 'README.md'), readme(manifest))
  return pack(manifest, folder)
}

/** Compressing it takes a minute, and it changes with torch alone: made again only if its content would be another. */
async function packLibtorch(triple) {
  const manifest = platformManifest('libtorch-cpu', triple)
  const source = libtorchDir()
  const libraries = PLATFORMS[triple].wheels.flatMap((wheel) => wheel.libraries)
  const missing = libraries.filter((name) => !existsSync(join(source, 'lib', name)))
  if (missing.length > 0) throw new StepError(`${source}/lib has no ${missing.join(', ')}: run npm run setup first`)
  if (!hasLicences(source)) {
    throw new StepError(
      `${source} has no licences of its third parties and cannot be passed on: remove it and run npm run setup`,
    )
  }
  const extra = filesIn(join(ROOT, 'packaging/libtorch')).toSorted()
  const hash = createHash('sha256').update(JSON.stringify(manifest)).update(`${packLibtorch}${strip}`)
  for (const path of extra) hash.update(readFileSync(path))
  for (const name of libraries) {
    const { size, mtimeMs } = statSync(join(source, 'lib', name))
    hash.update(`${name} ${size} ${mtimeMs}`)
  }
  const key = hash.digest('hex')
  const tarball = join(OUT, tarballName(manifest))
  const stamp = `${tarball}.stamp`
  if (existsSync(tarball) && existsSync(stamp) && readFileSync(stamp, 'utf8') === key) return tarball

  const folder = stage(manifest)
  mkdirSync(join(folder, 'lib'))
  for (const name of libraries) {
    copyFileSync(join(source, 'lib', name), join(folder, 'lib', name))
    await strip(join(folder, 'lib', name))
  }
  cpSync(join(source, 'licenses'), join(folder, 'licenses'), { recursive: true })
  cpSync(join(ROOT, 'packaging/libtorch'), join(folder, 'licenses'), { recursive: true })
  writeFileSync(join(folder, 'README.md'), readme(manifest))
  await pack(manifest, folder)
  writeFileSync(stamp, key)
  return tarball
}

const readme = ({ name, description, homepage }) =>
  `# ${name}\n\n${description}. Installed with [drcorl](${homepage}) where it fits; not meant to be installed by itself.\n`

function check(kind, tarball) {
  const size = sizeOf(tarball)
  console.log(`    ${tarball.slice(dirname(OUT).length - 6).padEnd(72)} ${megabytes(size).padStart(9)}`)
  if (size > LIMITS[kind]) throw new StepError(`${tarball} is larger than the ${megabytes(LIMITS[kind])} allowed`)
}

async function main() {
  const asked = process.argv.slice(2)
  const wants = (what) => asked.length === 0 || asked.includes(what)
  const triple = hostTriple()
  if (wants('platform') && triple === undefined) {
    throw new StepError(`nothing is published for ${process.platform} ${process.arch}, or for a libc other than glibc`)
  }
  mkdirSync(STAGE, { recursive: true })
  console.log(`packages in target/packages, for ${triple}`)
  if (wants('root')) check('drcorl', await packRoot())
  if (wants('platform')) {
    for (const addon of ADDONS) check(addon.kind, await packAddon(addon, triple))
    check('libtorch-cpu', await packLibtorch(triple))
  }
  writeFileSync(join(OUT, 'manifests.json'), `${JSON.stringify([rootManifest(), ...platformManifests()], null, 2)}\n`)
  rmSync(STAGE, { recursive: true })
}

main().catch(fail)
