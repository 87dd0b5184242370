// Publishes the tarballs of target/packages, in the release workflow: the platform packages first, the root, which
// names them, last. A version that is already there is passed over, so that a release cut short can be run again;
// libtorch's changes with torch alone.
//
//   node scripts/publish.mjs [--dry-run]
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { platformManifests, rootManifest, tarballName } from './lib/packages.mjs'
import { ask, fail, npm, ROOT, runLoudly, StepError } from './lib/run.mjs'

const FOLDER = join(ROOT, 'target/packages')
const DRY = process.argv.includes('--dry-run')

function isPublished({ name, version }) {
  const [command, args] = npm(['view', `${name}@${version}`, 'version', '--loglevel=silent'])
  return Boolean(ask(command, args))
}

async function main() {
  const manifests = [...platformManifests(), rootManifest()]
  const open = manifests.filter((manifest) => !isPublished(manifest))
  const missing = open.filter((manifest) => !existsSync(join(FOLDER, tarballName(manifest))))
  // Before the first is published: a root whose packages are not all there must never be.
  if (missing.length > 0) throw new StepError(`not built: ${missing.map(({ name }) => name).join(', ')}`)
  for (const manifest of open) {
    const flags = ['--access=public', '--provenance', ...(DRY ? ['--dry-run'] : [])]
    const [command, args] = npm(['publish', join(FOLDER, tarballName(manifest)), ...flags])
    const { status } = await runLoudly(command, args)
    if (status !== 0) throw new StepError(`${manifest.name} was not published, see above`)
  }
  console.log(`published ${open.length} of ${manifests.length} packages, the others were there`)
}

main().catch(fail)
