/** `drcorl torch install`: a libtorch in the user's cache, from the official archive, an address or a file. */
import { readFileSync } from 'node:fs'
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { download } from '../download.js'
import { DrcorlError, describeFsError } from '../errors.js'
import { exists, makeFolder, readJson, sha256File, writeJson } from '../files.js'
import { lock } from '../lock.js'
import { VERSION } from '../version.js'
import { inspectLibtorch, libtorchCache } from './libtorch.js'
import { unpackFile } from './operation.js'
import { refusal, thisHost, tripleOf } from './platform.js'

/** Written by a release, which downloads every archive; null where that has not been done. */
interface Manifest {
  version: string
  archives: Record<string, Record<string, { url: string; bytes: number | null; sha256: string | null }>>
}

export interface TorchInstallOptions {
  /** A CUDA build, such as `cu130`; default the CPU build. */
  cuda?: string | undefined
  /** A file or an http(s) address to take instead of the official archive. */
  from?: string | undefined
  /** Of that archive; an address needs it. */
  sha256?: string | undefined
  /** Default: the folder where drcorl looks by itself. */
  dir?: string | undefined
  /** Replace what is there. */
  overwrite?: boolean | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((stage: 'download' | 'unpack', done: number, total: number | undefined) => void) | undefined
  onRetry?: ((note: string) => void) | undefined
}

export interface TorchInstallResult {
  folder: string
  status: 'installed' | 'present'
  /** As the archive tells it. */
  version: string
  cuda: boolean
  /** Address or file it came from; null where what was there is of unknown origin. */
  from: string | null
  sha256: string | null
  /** True where drcorl finds the folder by itself; else `DRCORL_LIBTORCH` has to name it. */
  found_by_default: boolean
}

const RECORD = 'drcorl-libtorch.json'

/** Beside the libraries: where they came from. */
interface InstallRecord {
  from: string
  sha256: string
  installed: string
  drcorl: string
}

/** An archive to install, and what it must be. */
interface Source {
  /** A file of this machine or an address. */
  from: string
  isFile: boolean
  bytes: number | null
  sha256: string | undefined
}

/**
 * Fetches, checks and unpacks libtorch. The folder appears whole or not at all; an interrupted download goes on.
 *
 * @throws DrcorlError `Usage` for a build that has no archive or no checksum, `Data` for an archive that is damaged, of another
 *   version or no libtorch, `Busy`, `Io`, `Cancelled`.
 */
export async function installLibtorch(options: TorchInstallOptions = {}): Promise<TorchInstallResult> {
  const refused = refusal(thisHost())
  if (refused !== undefined) throw refused
  const source = sourceOf(options)
  const folder = resolve(options.dir ?? libtorchCache())
  await makeFolder(dirname(folder))
  const unlock = await lock(`${folder}.lock`, `installing libtorch in ${folder}`)
  try {
    if ((await exists(folder)) && options.overwrite !== true) return await present(folder, options)
    return await install(source, folder, options)
  } finally {
    await unlock()
  }
}

function sourceOf({ cuda, from, sha256 }: TorchInstallOptions): Source {
  if (sha256 !== undefined && !/^[0-9a-fA-F]{64}$/.test(sha256)) {
    throw new DrcorlError('Usage', `--sha256 "${sha256}" is not 64 hexadecimal digits`)
  }
  if (from === undefined) return official(cuda ?? 'cpu', sha256)
  const isFile = !/^https?:\/\//.test(from)
  if (!isFile && sha256 === undefined) {
    throw new DrcorlError('Usage', `--from ${from} needs --sha256: native code is not taken on trust`, {
      hint: 'download the archive yourself and name the file, or give the checksum its publisher states',
    })
  }
  return { from: isFile ? resolve(from) : from, isFile, bytes: null, sha256: sha256?.toLowerCase() }
}

function official(build: string, given: string | undefined): Source {
  const { version, archives } = JSON.parse(
    readFileSync(new URL('libtorch-manifest.json', import.meta.url), 'utf8'),
  ) as Manifest
  const triple = tripleOf(process.platform, process.arch) ?? ''
  const builds = archives[triple] ?? {}
  const archive = builds[build]
  if (archive === undefined) {
    const known = Object.keys(builds)
    const what = `libtorch ${version} has no official archive "${build}" for ${triple}`
    throw new DrcorlError('Usage', `${what}${known.length > 0 ? `; there are: ${known.join(', ')}` : ''}`, {
      hint: 'name an archive: --from FILE; or use the torch of a Python: DRCORL_LIBTORCH=python',
    })
  }
  const sha256 = given?.toLowerCase() ?? archive.sha256 ?? undefined
  if (sha256 === undefined) {
    throw new DrcorlError('Usage', `this build of drcorl holds no checksum of ${archive.url}, so it is not fetched`, {
      hint: 'download it and name the file: --from FILE; or give its checksum: --sha256 HEX',
    })
  }
  return { from: archive.url, isFile: false, bytes: archive.bytes, sha256 }
}

/** What is there is kept if it serves and is what was asked for. */
async function present(folder: string, { cuda, dir }: TorchInstallOptions): Promise<TorchInstallResult> {
  const { version, problem, cuda: hasCuda } = inspectLibtorch(folder)
  const hint = 'replace it: the same command with --overwrite'
  if (problem !== null || version === null)
    throw new DrcorlError('Data', problem ?? `${folder} is no libtorch`, { hint })
  if (cuda !== undefined && !hasCuda) {
    throw new DrcorlError('Usage', `${folder} holds libtorch ${version} without CUDA`, { hint })
  }
  const record = (await readJson(join(folder, RECORD)).catch(() => null)) as InstallRecord | null
  const { from = null, sha256 = null } = record ?? {}
  return { folder, status: 'present', version, cuda: hasCuda, from, sha256, found_by_default: dir === undefined }
}

async function install(source: Source, folder: string, options: TorchInstallOptions): Promise<TorchInstallResult> {
  const { signal, onProgress, cuda } = options
  const archive = source.isFile ? source.from : `${folder}.archive`
  const sha256 = await obtain(source, archive, options)
  const scratch = `${folder}.partial`
  await rm(scratch, { recursive: true, force: true })
  try {
    await mkdir(scratch)
    await unpackFile(archive, scratch, { signal, onProgress: (done, total) => onProgress?.('unpack', done, total) })
    const { version, problem, cuda: hasCuda } = inspectLibtorch(scratch)
    if (problem !== null || version === null) {
      const reason = problem?.replaceAll(scratch, source.from) ?? `${source.from} is no libtorch`
      throw new DrcorlError('Data', reason, { hint: 'name another archive with --from' })
    }
    if (cuda !== undefined && !hasCuda) {
      throw new DrcorlError('Data', `${source.from} holds no CUDA libraries, and --cuda ${cuda} asks for them`)
    }
    const record: InstallRecord = { from: source.from, sha256, installed: new Date().toISOString(), drcorl: VERSION }
    await writeJson(join(scratch, RECORD), record)
    await replaceFolder(folder, scratch)
    if (!source.isFile) await rm(archive, { force: true })
    const found_by_default = options.dir === undefined
    return { folder, status: 'installed', version, cuda: hasCuda, from: source.from, sha256, found_by_default }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The archive is there and is what it should be afterwards. Returns its checksum. */
async function obtain(source: Source, archive: string, options: TorchInstallOptions): Promise<string> {
  const { signal, onProgress, onRetry } = options
  if (!source.isFile) {
    const progress = (bytes: number, total: number | undefined): void =>
      onProgress?.('download', bytes, total ?? source.bytes ?? undefined)
    const found = await download(source.from, archive, {
      sha256: source.sha256,
      signal,
      onRetry,
      onProgress: progress,
    })
    return found.sha256
  }
  const { isFile } = await stat(archive).then(
    (data) => ({ isFile: data.isFile() }),
    (error: unknown) => {
      throw new DrcorlError('Io', `cannot read ${archive}: ${describeFsError(error)}`, { exitStatus: 2 })
    },
  )
  if (!isFile)
    throw new DrcorlError('Usage', `--from ${archive} is no file`, {
      hint: 'an unpacked libtorch needs no installing: DRCORL_LIBTORCH=DIR',
    })
  const sha256 = await sha256File(archive)
  if (source.sha256 !== undefined && source.sha256 !== sha256) {
    throw new DrcorlError(
      'Data',
      `${basename(archive)} has sha256 ${sha256}, not ${source.sha256}: it is damaged or another file`,
    )
  }
  return sha256
}

/** Two renames: a crash between them leaves no libtorch, and never half of one. */
async function replaceFolder(folder: string, by: string): Promise<void> {
  const old = `${folder}.old`
  await rm(old, { recursive: true, force: true })
  if (await exists(folder)) await rename(folder, old)
  await rename(by, folder)
  await rm(old, { recursive: true, force: true })
}
