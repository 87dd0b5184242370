import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { type Declare, skipped } from './test-if.js'

const FOLDER = process.env['DRCORL_DATA_DIR'] ?? fileURLToPath(new URL('../../shared/data', import.meta.url))

/** A test on a recorded dataset; skipped, and counted so, where that is absent. */
export function withData(
  name: string,
  title: string,
  body: (t: ExecutionContext, path: string) => void | Promise<void>,
  declare: Declare = test,
): void {
  const path = join(FOLDER, name)
  if (existsSync(path)) declare(title, (t) => body(t, path))
  else skipped(title, `${path} is absent, DRCORL_DATA_DIR names another folder`)
}
