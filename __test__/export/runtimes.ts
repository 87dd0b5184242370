/** Where `node scripts/runtimes.mjs` puts what exported policies are played with. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const RUNTIMES = fileURLToPath(new URL('../../target/runtimes', import.meta.url))

/** False, and says so aloud, where the tests that play exports cannot run. */
export function haveRuntimes(): boolean {
  if (existsSync(join(RUNTIMES, 'node_modules/@tensorflow/tfjs-node/lib')) && existsSync(join(RUNTIMES, 'python'))) {
    return true
  }
  console.warn(`SKIPPED: ${RUNTIMES} is absent or incomplete (node scripts/runtimes.mjs); exports are not played`)
  return false
}
