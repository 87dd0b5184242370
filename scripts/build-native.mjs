// Builds the two addons into the root, and their types to target/native. The types of the repository are generated
// files: `npm run codegen` copies them, `npm run codegen:check` compares them. What loads the addons is
// src/native/addons.ts. With --dist the runtime addon is built as it is shipped: small,
// in minutes (profile `dist` in Cargo.toml).
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { generateTypeDef } from '@napi-rs/cli'
import { ADDONS, addonFile } from './lib/addons.mjs'
import { libtorchEnv } from './lib/libtorch.mjs'
import { hostTriple, PLATFORMS } from './lib/platforms.mjs'
import { fail, ROOT, runLoudly, StepError } from './lib/run.mjs'

const TYPES = join(ROOT, 'target/napi-types')
const OUT = join(ROOT, 'target/native')

// Parquet's zstd is read and never written, but the C library comes whole:
// its better compressors are 150 KB of the addon.
const COMPRESSORS = ['DFAST', 'GREEDY', 'LAZY', 'LAZY2', 'BTLAZY2', 'BTOPT', 'BTULTRA']
const DIST_CFLAGS = COMPRESSORS.map((name) => `-DZSTD_EXCLUDE_${name}_BLOCK_COMPRESSOR`)

/** Bytes the runtime addon may have as it is shipped. */
const DIST_LIMIT = 3e6

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
  // cargo, not `napi build`: that one always passes --target,
  // and so compiles the C++ of the Torch bindings a second time.
  const env = { ...libtorchEnv(), NAPI_TYPE_DEF_TMP_FOLDER: TYPES }
  for (const crate of ['drcorl-binding', ...ADDONS.map(({ crate }) => crate)]) {
    const force = `NAPI_FORCE_BUILD_${crate.toUpperCase().replaceAll('-', '_')}`
    if (!existsSync(join(TYPES, crate))) env[force] = String(Date.now())
  }
  const build = async (args, more = {}) => {
    const { status } = await runLoudly('cargo', ['build', ...args], { env: { ...env, ...more } })
    if (status !== 0) throw new StepError('the Rust build failed, see above')
  }
  const dist = process.argv.includes('--dist')
  await build(['--release', ...ADDONS.flatMap(({ crate }) => ['-p', crate])])
  const CFLAGS = [process.env.CFLAGS, ...DIST_CFLAGS].filter(Boolean).join(' ')
  if (dist) await build(['--profile', 'dist', '-p', 'drcorl-runtime'], { CFLAGS })

  const triple = hostTriple()
  for (const addon of ADDONS) {
    writeFileSync(join(OUT, addon.types), await typesOf(addon))
    // Renamed into place: a process that has the old addon loaded keeps it.
    const file = join(ROOT, addonFile(addon, triple))
    const profile = dist && addon.crate === 'drcorl-runtime' ? 'dist' : 'release'
    const built = join(ROOT, 'target', profile, PLATFORMS[triple].library(addon.crate.replaceAll('-', '_')))
    if (profile === 'dist' && statSync(built).size > DIST_LIMIT) {
      throw new StepError(`${built} has ${statSync(built).size} bytes, more than the ${DIST_LIMIT} that are promised`)
    }
    copyFileSync(built, `${file}.partial`)
    renameSync(`${file}.partial`, file)
    const types = join(ROOT, 'src/native', addon.types)
    if (!existsSync(types)) copyFileSync(join(OUT, addon.types), types)
  }
}

main().catch(fail)
