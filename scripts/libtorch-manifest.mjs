// Writes src/native/libtorch-manifest.json: every wheel that a libtorch is made of, with its size and checksum, for
// each platform and build. A step of changing the version in lib/platforms.mjs; it fetches several GB, as sizes and
// checksums are those of the files themselves. Needs Linux, where pip answers for the dependencies of the CUDA build.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { format, resolveConfig } from 'prettier'
import { MANIFEST } from './lib/libtorch.mjs'
import { LIBTORCH_VERSION, PLATFORMS, wheelSelection } from './lib/platforms.mjs'
import { PIP, PYTHON } from './lib/python.mjs'
import { fail, ROOT, runQuietly } from './lib/run.mjs'
import { replaceFile } from './lib/stamp.mjs'

/** Name of a package as wheels write it. */
const nameOf = (requirement) => requirement.split('==')[0].replaceAll('-', '_')

async function entry(folder, file) {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(join(folder, file))) hash.update(chunk)
  const [name, version] = file.split('-')
  const { size: bytes } = await stat(join(folder, file))
  return { requirement: `${name.replaceAll('_', '-')}==${version}`, file, bytes, sha256: hash.digest('hex') }
}

/**
 * Of a build: its wheels, each with the libraries to take.
 * `librariesOf` answers undefined for a wheel that is not wanted.
 */
async function build(options, librariesOf) {
  const folder = await mkdtemp(join(ROOT, 'target/wheels-'))
  try {
    const args = [...PIP, 'download', '--dest', folder, ...options]
    await runQuietly('download', PYTHON, args, { env: { TMPDIR: folder } })
    const found = []
    const files = (await readdir(folder)).filter((file) => file.endsWith('.whl')).toSorted()
    for (const file of files) {
      const libraries = librariesOf(file.split('-')[0])
      if (libraries === undefined) continue
      found.push({ ...(await entry(folder, file)), ...(libraries === 'all' ? {} : { libraries }) })
    }
    return found
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function buildsOf({ tags, wheels, cuda }) {
  const requirements = wheels.map(({ requirement }) => requirement)
  const listed = new Map(wheels.map(({ requirement, libraries }) => [nameOf(requirement), libraries]))
  const builds = {
    cpu: await build([...wheelSelection(tags), '--no-deps', ...requirements], (name) => listed.get(name)),
  }
  if (cuda !== undefined) {
    // With its dependencies: torch names the versions of NVIDIA's libraries it was built with.
    builds[cuda.build] = await build([...wheelSelection(tags), requirements[0]], (name) => {
      if (name === 'torch') return [...listed.get(name), ...cuda.libraries]
      return name.startsWith('nvidia_') ? 'all' : undefined
    })
  }
  return builds
}

async function main() {
  const builds = {}
  for (const [triple, platform] of Object.entries(PLATFORMS)) {
    builds[triple] = await buildsOf(platform)
    for (const [name, wheels] of Object.entries(builds[triple])) {
      const megabytes = Math.round(wheels.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6)
      console.log(`${triple} ${name}: ${wheels.length} wheels, ${megabytes} MB`)
    }
  }
  const options = await resolveConfig(MANIFEST)
  replaceFile(
    MANIFEST,
    await format(JSON.stringify({ version: LIBTORCH_VERSION, builds }), { ...options, parser: 'json' }),
  )
}

main().catch(fail)
