// The crates of the workspace, as cargo reads their manifests.
import { execFileSync } from 'node:child_process'
import { dirname, relative, sep } from 'node:path'
import { ROOT, StepError } from './run.mjs'

const inRepository = (path) => relative(ROOT, path).split(sep).join('/')

/**
 * @returns {{ name: string, description: string | null, folder: string, uses: string[] }[]} folders from the root, with
 * slashes;
 *   `uses` are those of the workspace's crates that this one depends on, be it to build or to test
 */
export function crates() {
  const args = ['metadata', '--no-deps', '--format-version', '1', '--offline']
  const { packages } = JSON.parse(metadata(args))
  return packages.map(({ name, description, manifest_path, dependencies }) => {
    const uses = dependencies.flatMap(({ path }) => (path ? [inRepository(path)] : []))
    return { name, description, folder: inRepository(dirname(manifest_path)), uses: [...new Set(uses)] }
  })
}

function metadata(args) {
  try {
    return execFileSync('cargo', args, { cwd: ROOT, encoding: 'utf8', maxBuffer: 1 << 26, stdio: 'pipe' })
  } catch (error) {
    throw new StepError(`cargo ${args.join(' ')} failed:\n${error.stderr || error.message}`)
  }
}
