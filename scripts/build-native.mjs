// Builds the two addons into the root, and their types to target/native. The types of the repository are generated files:
// `npm run codegen` copies them, `npm run codegen:check` compares them. What loads the addons is src/native/addons.ts.
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { generateTypeDef, parseTriple } from '@napi-rs/cli'
import { ADDONS } from './lib/addons.mjs'
import { libtorchEnv } from './lib/libtorch.mjs'
import { fail, ROOT, runLoudly, StepError } from './lib/run.mjs'

const { napi } = createRequire(import.meta.url)('../package.json')
const TYPES = join(ROOT, 'target/napi-types')
const OUT = join(ROOT, 'target/native')

/** Types of an addon: those of its own crate and those of the crate that both share. */
async function typesOf({ crate }) {
  const folder = join(OUT, 'types', crate)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  for (const name of ['drcorl-binding', crate]) copyFileSync(join(TYPES, name), join(folder, name))
  const { dts } = await generateTypeDef({ typeDefDir: folder, cwd: ROOT, declareBindingTarget: false })
  return dts
}

async function main() {
  mkdirSync(TYPES, { recursive: true })
  mkdirSync(OUT, { recursive: true })
  // cargo, not `napi build`: that one always passes --target, and so compiles the C++ of the Torch bindings a second time.
  const env = { ...libtorchEnv(), NAPI_TYPE_DEF_TMP_FOLDER: TYPES }
  for (const crate of ['drcorl-binding', ...ADDONS.map(({ crate }) => crate)]) {
    const force = `NAPI_FORCE_BUILD_${crate.toUpperCase().replaceAll('-', '_')}`
    if (!existsSync(join(TYPES, crate))) env[force] = String(Date.now())
  }
  const packages = ADDONS.flatMap(({ crate }) => ['-p', crate])
  const { status } = await runLoudly('cargo', ['build', '--release', ...packages], { env })
  if (status !== 0) throw new StepError('the Rust build failed, see above')

  const { platformArchABI } = parseTriple(napi.targets[0])
  for (const addon of ADDONS) {
    writeFileSync(join(OUT, addon.types), await typesOf(addon))
    // Renamed into place: a process that has the old addon loaded keeps it.
    const file = join(ROOT, `${addon.stem}.${platformArchABI}.node`)
    copyFileSync(join(ROOT, `target/release/lib${addon.crate.replaceAll('-', '_')}.so`), `${file}.partial`)
    renameSync(`${file}.partial`, file)
    const types = join(ROOT, 'src/native', addon.types)
    if (!existsSync(types)) copyFileSync(join(OUT, addon.types), types)
  }
}

main().catch(fail)
