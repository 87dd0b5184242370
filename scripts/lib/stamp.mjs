// What was built from which content: a step is skipped while the hash of its inputs stays the same.
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ROOT } from './run.mjs'

const STAMPS = join(ROOT, 'target/setup-stamp.json')

function files(path) {
  const full = join(ROOT, path)
  if (!existsSync(full)) return []
  if (!statSync(full).isDirectory()) return [path]
  return readdirSync(full)
    .toSorted()
    .flatMap((name) => files(join(path, name)))
}

/**
 * SHA-256 over names and contents of files and folders (relative to the root; a missing one counts as empty).
 * @param {string[]} paths
 * @param {string[]} [extra] further inputs, such as versions of tools
 */
export function hashOf(paths, extra = []) {
  const hash = createHash('sha256')
  for (const path of paths.flatMap(files)) {
    const content = readFileSync(join(ROOT, path))
    hash.update(`${path}\0${content.length}\0`).update(content)
  }
  return hash.update(extra.join('\0')).digest('hex')
}

function stamps() {
  try {
    return JSON.parse(readFileSync(STAMPS, 'utf8'))
  } catch {
    // No stamp file, or one cut short: every step runs again, which is always right.
    return {}
  }
}

/** True when step `name` last succeeded on the same inputs. */
export function isFresh(name, hash) {
  return stamps()[name] === hash
}

/** Records that step `name` succeeded. */
export function setStamp(name, hash) {
  mkdirSync(dirname(STAMPS), { recursive: true })
  replaceFile(STAMPS, `${JSON.stringify({ ...stamps(), [name]: hash }, null, 2)}\n`)
}

/** Writes a file by way of a temporary name: a reader never sees half of it. */
export function replaceFile(path, content) {
  const partial = `${path}.${process.pid}.partial`
  writeFileSync(partial, content)
  renameSync(partial, path)
}
