// Builds crates/node and writes the addon to the root, and its loader and types to target/native. The loader and types of
// the repository are generated files: `npm run codegen` copies them, `npm run codegen:check` compares them.
import { copyFileSync, existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { generateTypeDef, parseTriple, writeJsBinding } from '@napi-rs/cli'
import { libtorchEnv } from './lib/libtorch.mjs'
import { fail, ROOT, runLoudly, StepError } from './lib/run.mjs'

const { napi, version } = createRequire(import.meta.url)('../package.json')
const TYPES = join(ROOT, 'target/napi-types')
const OUT = join(ROOT, 'target/native')

async function main() {
  mkdirSync(TYPES, { recursive: true })
  mkdirSync(OUT, { recursive: true })
  // cargo, not `napi build`: that one always passes --target, and so compiles the C++ of the Torch bindings a second time.
  const env = { ...libtorchEnv(), NAPI_TYPE_DEF_TMP_FOLDER: TYPES }
  if (!existsSync(join(TYPES, 'drcorl-node'))) env.NAPI_FORCE_BUILD_DRCORL_NODE = String(Date.now())
  const { status } = await runLoudly('cargo', ['build', '--release', '-p', 'drcorl-node'], { env })
  if (status !== 0) throw new StepError('the Rust build failed, see above')

  const { exports: idents, dts } = await generateTypeDef({ typeDefDir: TYPES, cwd: ROOT, declareBindingTarget: false })
  writeFileSync(join(OUT, 'index.d.ts'), dts)
  const { binaryName, packageName, targets } = napi
  await writeJsBinding({ platform: true, esm: true, idents, binaryName, packageName, version, outputDir: OUT })

  // Renamed into place: a process that has the old addon loaded keeps it.
  const addon = join(ROOT, `${binaryName}.${parseTriple(targets[0]).platformArchABI}.node`)
  copyFileSync(join(ROOT, 'target/release/libdrcorl_node.so'), `${addon}.partial`)
  renameSync(`${addon}.partial`, addon)
  for (const name of ['index.js', 'index.d.ts']) {
    if (!existsSync(join(ROOT, name))) copyFileSync(join(OUT, name), join(ROOT, name))
  }
}

main().catch(fail)
