/** `drcorl torch install`: a libtorch in the user's cache, from Python's wheels, an address or a file. */
import { mkdir, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { DrcorlError, describeFsError } from '../base/errors.js'
import { exists, makeFolder, readJson, sha256File, writeAtomic, writeJson } from '../base/files.js'
import { lock } from './lock.js'
import { VERSION } from '../base/version.js'
import { download } from '../net/download.js'
import { redact } from '../net/http.js'
import { inspectLibtorch, libtorchCache } from './libtorch.js'
import { unpackFile, unpackWheelFile } from './operation.js'
import { refusal, thisHost } from './platform.js'
import { type Build, buildOf, bytesOf, fetchWheels } from './wheels.js'

export interface TorchInstallOptions {
  /** A CUDA build, such as `cu130`; default the CPU build. */
  cuda?: string | undefined
  /** An archive to take instead of the wheels: a file or an http(s) address. */
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
  /** Address, file or names of the wheels it came from; null where what was there is of unknown origin. */
  from: string | null
  /** Of the archive; null where it came from wheels, each of which has its own. */
  sha256: string | null
  /** True where drcorl finds the folder by itself; else `DRCORL_LIBTORCH` has to name it. */
  found_by_default: boolean
}

const RECORD = 'drcorl-libtorch.json'

/** Beside the libraries: where they came from. */
interface InstallRecord {
  from: string
  sha256: string | null
  installed: string
  drcorl: string
}

/** What to install, and what it must be. */
type Source = ({ kind: 'wheels' } & Build) | { kind: 'file' | 'address'; from: string; sha256: string | undefined }

/**
 * Fetches, checks and unpacks libtorch. The folder appears whole or not at all; an interrupted download goes on.
 *
 * @throws DrcorlError `Usage` for a build that does not exist or an address without checksum, `Data` for an archive
 *   that is damaged, of another version or no libtorch, `Busy`, `Io`, `Cancelled`.
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
    unlock()
  }
}

function sourceOf({ cuda, from, sha256 }: TorchInstallOptions): Source {
  if (sha256 !== undefined && !/^[0-9a-fA-F]{64}$/.test(sha256)) {
    throw new DrcorlError('Usage', `--sha256 "${sha256}" is not 64 hexadecimal digits`)
  }
  if (from === undefined) {
    if (sha256 === undefined) return { kind: 'wheels', ...buildOf(cuda ?? 'cpu') }
    throw new DrcorlError('Usage', '--sha256 is the checksum of an archive: it needs --from')
  }
  if (!/^https?:\/\//.test(from)) return { kind: 'file', from: resolve(from), sha256: sha256?.toLowerCase() }
  if (sha256 === undefined) {
    throw new DrcorlError('Usage', `--from ${redact(from)} needs --sha256: native code is not taken on trust`, {
      hint: 'download the archive yourself and name the file, or give the checksum its publisher states',
    })
  }
  return { kind: 'address', from, sha256: sha256.toLowerCase() }
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
  const { cuda } = options
  const scratch = `${folder}.partial`
  // What is fetched stays here when something fails, so that the next attempt goes on.
  const fetched = `${folder}.fetched`
  await rm(scratch, { recursive: true, force: true })
  try {
    await mkdir(scratch)
    const { from, sha256 } =
      source.kind === 'wheels'
        ? await unpackWheels(source, fetched, scratch, options)
        : await unpackArchive(source, fetched, scratch, options)
    const { version, problem, cuda: hasCuda } = inspectLibtorch(scratch)
    if (problem !== null || version === null) {
      const reason = problem?.replaceAll(scratch, from) ?? `${from} is no libtorch`
      throw new DrcorlError('Data', reason, { hint: 'name another archive with --from' })
    }
    if (cuda !== undefined && !hasCuda) {
      throw new DrcorlError('Data', `${from} holds no CUDA libraries, and --cuda ${cuda} asks for them`)
    }
    const record: InstallRecord = { from, sha256, installed: new Date().toISOString(), drcorl: VERSION }
    await writeJson(join(scratch, RECORD), record)
    await replaceFolder(folder, scratch)
    await rm(fetched, { recursive: true, force: true })
    const found_by_default = options.dir === undefined
    return { folder, status: 'installed', version, cuda: hasCuda, from, sha256, found_by_default }
  } finally {
    await rm(scratch, { recursive: true, force: true })
    // Only where nothing is left to go on with.
    await rmdir(fetched).catch(() => undefined)
  }
}

/** Of an archive: those with CUDA have up to 3 GB. */
const MOST_BYTES = 2 ** 33

type Origin = Pick<InstallRecord, 'from' | 'sha256'>

async function unpackWheels(
  { version, wheels }: Build,
  fetched: string,
  folder: string,
  { signal, onProgress }: TorchInstallOptions,
): Promise<Origin> {
  const progress = (bytes: number, total: number): void => onProgress?.('download', bytes, total)
  const paths = await fetchWheels(wheels, fetched, { signal, onProgress: progress })
  const total = bytesOf(wheels)
  let before = 0
  for (const [index, { libraries, bytes }] of wheels.entries()) {
    const unpacked = (done: number): void => onProgress?.('unpack', before + done, total)
    await unpackWheelFile(paths[index]!, folder, libraries, { signal, onProgress: unpacked })
    before += bytes
  }
  await writeAtomic(join(folder, 'build-version'), `${version}\n`)
  return { from: wheels.map(({ requirement }) => requirement).join(' '), sha256: null }
}

async function unpackArchive(
  { kind, from, sha256 }: Exclude<Source, { kind: 'wheels' }>,
  fetched: string,
  folder: string,
  options: TorchInstallOptions,
): Promise<Origin> {
  const { signal, onProgress, onRetry } = options
  const unpack = (archive: string): Promise<void> =>
    unpackFile(archive, folder, { signal, onProgress: (done, total) => onProgress?.('unpack', done, total) })
  if (kind === 'file') {
    const found = await checkFile(from, sha256)
    await unpack(from)
    return { from, sha256: found }
  }
  await makeFolder(fetched)
  const archive = join(fetched, 'archive')
  const progress = (bytes: number, total: number | undefined): void => onProgress?.('download', bytes, total)
  const found = await download(from, archive, { sha256, signal, onRetry, onProgress: progress, mostBytes: MOST_BYTES })
  await unpack(archive)
  return { from: found.url, sha256: found.sha256 }
}

/** Returns the checksum of an archive of the user's. */
async function checkFile(archive: string, wanted: string | undefined): Promise<string> {
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
  if (wanted !== undefined && wanted !== sha256) {
    throw new DrcorlError(
      'Data',
      `${basename(archive)} has sha256 ${sha256}, not ${wanted}: it is damaged or another file`,
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
