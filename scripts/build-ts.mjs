// Compiles src to dist and copies what is not TypeScript (the parameter schema,
// the Python side of the bridge) beside it.
import { chmodSync, cpSync, rmSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fail, ROOT, runLoudly, StepError } from './lib/run.mjs'

async function main() {
  const dist = join(ROOT, 'dist')
  rmSync(dist, { recursive: true, force: true })
  const { status } = await runLoudly('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'])
  if (status !== 0) throw new StepError('the TypeScript build failed, see above')
  const wanted = (path) => !path.endsWith('.ts') && basename(path) !== '__pycache__'
  cpSync(join(ROOT, 'src'), dist, { recursive: true, filter: wanted })
  // npx runs the package's own command from here, and only if it may be executed.
  chmodSync(join(dist, 'cli/main.js'), 0o755)
}

main().catch(fail)
