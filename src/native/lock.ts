/** Locks: two processes must not write the same thing. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { NativeLock } from '../../index.d.ts'
import { DrcorlError } from '../base/errors.js'
import { loadRuntime } from './addons.js'
import { guard } from './guard.js'

/** Gives a lock back; a second call does nothing. */
export type Unlock = () => void

/** What a lock file says of its holder. */
interface Holder {
  pid: number
  host: string
  /** ISO 8601. */
  since: string
  /** What the holder is doing. */
  what: string
}

/**
 * Takes a lock that the operating system holds on a file (flock): it ends with the process, however that ends, so no
 * lock is ever stale and none has to be taken over. A process has a lock once: its second attempt is refused like
 * anybody's.
 *
 * @param path of the lock file, which is there as long as the lock is held, on Windows also later.
 * @param what this process is doing, for the message to another, e.g. `fetching this file`.
 * @throws DrcorlError `Busy` (exit status 1) naming the holder: process, host, and since when;
 *   `Io` (exit status 2) where no file can be made, or the file system knows no locks.
 */
export async function lock(path: string, what: string): Promise<Unlock> {
  const { tryLock } = loadRuntime()
  const own: Holder = { pid: process.pid, host: hostname(), since: new Date().toISOString(), what }
  const held = await guard((): NativeLock | null => tryLock(path, JSON.stringify(own)), { exitStatus: 2 })
  if (held !== null) return () => held.release()
  const holder = await readHolder(path)
  throw new DrcorlError(
    'Busy',
    holder === undefined
      ? `another process holds ${path}`
      : `process ${holder.pid} on ${holder.host} is ${holder.what} already, since ${holder.since}`,
    { hint: 'wait until it has ended, or end it' },
  )
}

/** Undefined where the holder has not written it yet, or has just gone. */
async function readHolder(path: string): Promise<Holder | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Holder
  } catch {
    return undefined
  }
}
