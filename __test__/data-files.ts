import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const FOLDER = process.env['DRCORL_DATA_DIR'] ?? fileURLToPath(new URL('../../shared/data', import.meta.url))

/** Path of a recorded dataset, or undefined: then it says aloud that a test is left out. */
export function dataFile(name: string): string | undefined {
  const path = join(FOLDER, name)
  if (existsSync(path)) return path
  console.warn(`SKIPPED: ${path} is absent (DRCORL_DATA_DIR names another folder); tests on real data do not run`)
  return undefined
}
