import { createHash, randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises'
import { homedir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from './errors.js'

/** `drcorl` in the user's cache folder: `$XDG_CACHE_HOME`, else `~/.cache`. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  return join(env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'drcorl')
}

/** True where something lies at `path`. */
export async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/**
 * Makes a folder and those above it; one that is there is fine.
 *
 * @param what the message calls it.
 * @throws DrcorlError `Io` (exit status 2).
 */
export async function makeFolder(folder: string, what = 'folder'): Promise<void> {
  await makeWithParents(resolve(folder)).catch((error: unknown) => {
    const reason = codeOf(error) === 'EEXIST' ? 'it is a file' : describeFsError(error)
    const hint = 'name a place that can be written, for instance with --out'
    throw new DrcorlError('Io', `cannot make the ${what} ${folder}: ${reason}`, { cause: error, exitStatus: 2, hint })
  })
}

/** Node's own `recursive` says ENOENT where the place is read-only, and never ends below /proc. */
async function makeWithParents(folder: string): Promise<void> {
  const make = (): Promise<void> =>
    mkdir(folder).catch(async (error: unknown) => {
      if (!(await isFolder(folder))) throw error
    })
  await make().catch(async (error: unknown) => {
    if (codeOf(error) !== 'ENOENT' || dirname(folder) === folder) throw error
    await makeWithParents(dirname(folder))
    await make()
  })
}

/**
 * Makes a folder that nobody else has: `folder`, or where that is there the first free of `folder-2`, `folder-3`, ..
 *
 * @param what the message calls it.
 * @returns its path.
 * @throws DrcorlError `Io` (exit status 2).
 */
export async function makeNewFolder(folder: string, what = 'folder'): Promise<string> {
  await makeFolder(dirname(folder), what)
  for (let number = 1; ; number += 1) {
    const path = number === 1 ? folder : `${folder}-${number}`
    try {
      await mkdir(path)
      return path
    } catch (error) {
      if (codeOf(error) === 'EEXIST') continue
      const reason = describeFsError(error)
      throw new DrcorlError('Io', `cannot make the ${what} ${path}: ${reason}`, { cause: error, exitStatus: 2 })
    }
  }
}

async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
}

/** The paths of some files in a folder, by the names they are asked for. */
export function pathsIn<Name extends string>(
  folder: string,
  files: Readonly<Record<Name, string>>,
): Record<Name, string> {
  const paths = Object.entries<string>(files).map(([name, file]) => [name, join(folder, file)])
  return Object.fromEntries(paths) as Record<Name, string>
}

/**
 * Writes a file so that a reader, or a crash at any moment, sees the old content or the new one, never a part:
 * temporary name in the same folder, fsync, rename, fsync of the folder.
 */
export async function writeAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const folder = dirname(path)
  const temporary = join(folder, `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`)
  try {
    const handle = await open(temporary, 'wx')
    try {
      await handle.writeFile(content)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
    await syncFolder(folder)
  } catch (error) {
    await unlink(temporary).catch(() => undefined)
    throw new DrcorlError('Io', `cannot write ${path}: ${describeFsError(error)}`, { cause: error })
  }
}

/** `writeAtomic` of pretty-printed JSON with a final newline. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeAtomic(path, `${JSON.stringify(value, null, 2)}\n`)
}

/**
 * Reads and parses a JSON file.
 *
 * @throws DrcorlError `Io` (exit status 2) when it cannot be read, `Data` when it is not JSON.
 */
export async function readJson(path: string): Promise<unknown> {
  const text = await readInput(path)
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new DrcorlError('Data', `${path} is not valid JSON: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Reads a text file that the user named; a failure is bad input (exit status 2).
 *
 * @param most bytes it may have, e.g. where its reader takes long over more; also of a device, which never ends.
 * @throws DrcorlError `Io` where it cannot be read, `Data` where it is longer.
 */
export async function readInput(path: string, most = Number.POSITIVE_INFINITY): Promise<string> {
  if (most === Number.POSITIVE_INFINITY) return (await readBytes(path)).toString('utf8')
  const chunks: Buffer[] = []
  try {
    for await (const chunk of createReadStream(path, { end: most })) chunks.push(chunk as Buffer)
  } catch (error) {
    throw unreadable(path, error)
  }
  const bytes = Buffer.concat(chunks)
  if (bytes.length <= most) return bytes.toString('utf8')
  throw new DrcorlError('Data', `${path} is too long: it may have ${most} bytes`)
}

/** Reads a file that the user named; a failure is bad input (exit status 2). */
export async function readBytes(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw unreadable(path, error)
  }
}

/** Hex SHA-256 of a file's bytes, streamed. */
export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256')
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  } catch (error) {
    throw unreadable(path, error)
  }
  return hash.digest('hex')
}

function unreadable(path: string, error: unknown): DrcorlError {
  return new DrcorlError('Io', `cannot read ${path}: ${describeFsError(error)}`, { cause: error, exitStatus: 2 })
}

async function syncFolder(folder: string): Promise<void> {
  // Windows cannot open a folder; there the rename alone is as far as Node can go.
  if (process.platform === 'win32') return
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
