/** Where `node scripts/runtimes.mjs` puts what exported policies are played with. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const RUNTIMES = fileURLToPath(new URL('../../target/runtimes', import.meta.url))

/** True where exports can be played. */
export const haveRuntimes = (): boolean =>
  existsSync(join(RUNTIMES, 'node_modules/@tensorflow/tfjs-node/lib')) && existsSync(join(RUNTIMES, 'python'))
