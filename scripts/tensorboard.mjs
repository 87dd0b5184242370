// `node scripts/tensorboard.mjs`: the Python package that the test of event files reads them back with, in target/tensorboard. A user
// needs it only to look at the files. Running it again does only what is out of date.
import { existsSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PYTHON } from './lib/libtorch.mjs'
import { ask, fail, ROOT, runQuietly } from './lib/run.mjs'
import { hashOf, isFresh, setStamp } from './lib/stamp.mjs'

const PACKAGE = 'tensorboard==2.21.0'
const FOLDER = join(ROOT, 'target/tensorboard')

async function main() {
  const hash = hashOf([], [PACKAGE, ask(PYTHON, ['--version']) ?? ''])
  if (isFresh('tensorboard', hash) && existsSync(FOLDER)) return console.log(`${PACKAGE} is up to date`)
  rmSync(FOLDER, { recursive: true, force: true })
  // A folder for PYTHONPATH, not a virtual environment: Debian's Python has venv in a package of its own.
  const pip = ['-m', 'pip', '--disable-pip-version-check', '--quiet', 'install', '--only-binary=:all:']
  await runQuietly('pip install', PYTHON, [...pip, '--target', FOLDER, PACKAGE])
  await runQuietly('load', PYTHON, ['-c', 'import tensorboard'], { env: { PYTHONPATH: FOLDER } })
  setStamp('tensorboard', hash)
  console.log(`installed ${PACKAGE}`)
}

main().catch(fail)
