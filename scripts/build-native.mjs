// Builds the two addons into the root, and leaves in target/napi-types what `npm run codegen` makes index.d.ts of. What
// loads the addons is src/native/addons.ts. With --dist the runtime addon is built as it is shipped: small, in minutes
// (profile `dist` in Cargo.toml).
import { copyFileSync, existsSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ADDONS, addonFile } from './lib/addons.mjs'
import { DECLARING, TYPE_DEFS } from './lib/declarations.mjs'
import { libtorchEnv } from './lib/libtorch.mjs'
import { hostTriple, PLATFORMS } from './lib/platforms.mjs'
import { fail, ROOT, runLoudly, StepError } from './lib/run.mjs'

// Parquet's zstd is read and never written, but the C library comes whole:
// its better compressors are 150 KB of the addon.
const COMPRESSORS = ['DFAST', 'GREEDY', 'LAZY', 'LAZY2', 'BTLAZY2', 'BTOPT', 'BTULTRA']
const DIST_CFLAGS = COMPRESSORS.map((name) => `-DZSTD_EXCLUDE_${name}_BLOCK_COMPRESSOR`)

/** Bytes the runtime addon may have as it is shipped. */
const DIST_LIMIT = 3.3e6

async function main() {
  mkdirSync(TYPE_DEFS, { recursive: true })
  // cargo, not `napi build`: that one always passes --target,
  // and so compiles the C++ of the Torch bindings a second time.
  const env = { ...libtorchEnv(), NAPI_TYPE_DEF_TMP_FOLDER: TYPE_DEFS }
  for (const crate of DECLARING) {
    const force = `NAPI_FORCE_BUILD_${crate.toUpperCase().replaceAll('-', '_')}`
    if (!existsSync(join(TYPE_DEFS, crate))) env[force] = String(Date.now())
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
    // Renamed into place: a process that has the old addon loaded keeps it.
    const file = join(ROOT, addonFile(addon, triple))
    const profile = dist && addon.crate === 'drcorl-runtime' ? 'dist' : 'release'
    const built = join(ROOT, 'target', profile, PLATFORMS[triple].library(addon.crate.replaceAll('-', '_')))
    if (profile === 'dist' && statSync(built).size > DIST_LIMIT) {
      throw new StepError(`${built} has ${statSync(built).size} bytes, more than the ${DIST_LIMIT} that are promised`)
    }
    copyFileSync(built, `${file}.partial`)
    renameSync(`${file}.partial`, file)
  }
}

main().catch(fail)
