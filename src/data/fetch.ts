/** DSRL's dataset files from the network to this machine. */
import { stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, makeFolder, readJson, sha256File, writeJson } from '../base/files.js'
import { lock } from '../native/lock.js'
import { openDataset } from '../native/dataset.js'
import { VERSION } from '../base/version.js'
import type { DatasetSummary } from './dataset.js'
import { type DownloadOptions, type Downloaded, MOST_BYTES, download } from '../net/download.js'
import { decode, redact } from '../net/http.js'
import { dataFolders } from './locate.js'
import { type Task, recogniseTask, requireTask } from './tasks.js'

export interface FetchOptions extends Omit<DownloadOptions, 'verify'> {
  /**
   * Bytes the file may have, default twice what the official file would have as numbers of 8 bytes,
   * or 4 GiB for another.
   */
  mostBytes?: number | undefined
  /** Default: the first of the folders that `locateDataset` searches. */
  dir?: string | undefined
  /** Another address than the catalogue's, http or https. */
  from?: string | undefined
  /** Fetch a file that is there already. */
  overwrite?: boolean | undefined
}

export interface FetchResult {
  task: string
  path: string
  /** `present`: the file was there, and is what its record says. */
  status: 'fetched' | 'present'
  bytes: number
  sha256: string
  /**
   * What the bytes were compared with; every file is read and its dimensions compared with the task's besides. The
   * first time is on trust where neither server nor caller states a checksum: it is kept, and compared the next time.
   */
  checked: Downloaded['checked'] | 'its record'
  /** Without a name, a password and parameters. */
  url: string
}

/** Beside a fetched file as `.json`: where it came from and what it is. */
interface FetchRecord extends Omit<Downloaded, 'url'> {
  task: string
  /** Null for a file that was there before it was first looked at. */
  url: string | null
  fetched: string
  drcorl: string
}

/**
 * Fetches the dataset of a task, or checks the one that is there.
 *
 * @throws DrcorlError `Usage`, `Busy`, `Io`, `Data` or `Cancelled`, as `lock` and `download` say.
 */
export async function fetchDataset(name: string, options: FetchOptions = {}): Promise<FetchResult> {
  const task = requireTask(name)
  const url = checkUrl(options.from ?? task.dataset_url)
  checkSha256(options.sha256)
  checkMostBytes(options.mostBytes)
  const folder = resolve(options.dir ?? dataFolders()[0]!.path)
  await makeFolder(folder)
  const path = join(folder, fileName(task, url))
  const unlock = await lock(`${path}.lock`, 'fetching this file')
  try {
    if (!options.overwrite && (await exists(path))) return await present(task, path, url, options.sha256)
    const before = await readRecord(path)
    const downloaded = await download(url, path, {
      ...options,
      mostBytes: options.mostBytes ?? (url === task.dataset_url ? largestOf(task) : MOST_BYTES),
      verify: async (part) => {
        await verify(task, part)
        if (options.sha256 === undefined) await compare(part, before, redact(url))
      },
    })
    const { bytes, sha256, checked } = downloaded
    const record: FetchRecord = { task: task.task, ...downloaded, fetched: new Date().toISOString(), drcorl: VERSION }
    await writeJson(recordOf(path), record)
    return { task: task.task, path, status: 'fetched', bytes, sha256, checked, url: downloaded.url }
  } finally {
    unlock()
  }
}

const recordOf = (path: string): string => `${path}.json`

/** A file of other data keeps its own name: only the official one may have the official name. */
function fileName(task: Task, url: string): string {
  const name = basename(decode(new URL(url).pathname))
  return recogniseTask(name) === task ? name : task.dataset_file
}

/** The file must be readable as a whole, and of the task's dimensions. */
async function verify(task: Task, path: string): Promise<void> {
  const dataset = await openDataset(path, task.episode_length)
  const { obs_dim, act_dim } = JSON.parse(dataset.summary()) as DatasetSummary
  if (obs_dim === task.obs_dim && act_dim === task.act_dim) return
  throw new DrcorlError(
    'Data',
    `${path} has observations of ${obs_dim} entries and actions of ${act_dim}, task ${task.task} ${task.obs_dim} and ${task.act_dim}`,
    { hint: 'the file belongs to another task' },
  )
}

/**
 * Bytes that the official file of a task cannot have: twice those of its columns as numbers of 8 bytes. Its name states
 * its trajectories.
 */
function largestOf(task: Task): number {
  const trajectories = Number(/-(\d+)\.hdf5$/.exec(task.dataset_file)?.[1] ?? Number.NaN)
  const row = 2 * task.obs_dim + task.act_dim + 4
  return Number.isFinite(trajectories) ? 2 * 8 * row * task.episode_length * trajectories : MOST_BYTES
}

/** What is kept beside a file; undefined where nothing is, or nothing that can be read. */
async function readRecord(path: string): Promise<Partial<FetchRecord> | undefined> {
  const record = (await readJson(recordOf(path)).catch(() => undefined)) as Partial<FetchRecord> | null | undefined
  return typeof record === 'object' && record !== null && /^[0-9a-f]{64}$/.test(String(record.sha256))
    ? record
    : undefined
}

/** The same address must give the bytes it gave before. */
async function compare(part: string, before: Partial<FetchRecord> | undefined, url: string): Promise<void> {
  if (before?.sha256 === undefined || before.url !== url) return
  const sha256 = await sha256File(part)
  if (sha256 === before.sha256) return
  const message = `${url}: the file has sha256 ${sha256}, and had ${before.sha256} when it was fetched ${before.fetched ?? ''}`
  throw new DrcorlError('Data', message.trimEnd(), {
    hint: `another file is at this address now; take it by the same command with --sha256 ${sha256}`,
  })
}

async function present(task: Task, path: string, url: string, wanted: string | undefined): Promise<FetchResult> {
  const record = await readRecord(path)
  const sha256 = await sha256File(path)
  const expected = wanted?.toLowerCase() ?? record?.sha256
  if (expected !== undefined && expected !== sha256) {
    throw new DrcorlError('Data', `${path} has sha256 ${sha256}, not ${expected}: it is damaged or another file`, {
      hint: 'replace it: the same command with --overwrite',
    })
  }
  await verify(task, path)
  const { size: bytes } = await stat(path)
  const checked = wanted !== undefined ? 'sha256 given' : record === undefined ? 'nothing' : 'its record'
  if (record === undefined) {
    const found = {
      url: null,
      bytes,
      sha256,
      checked: checked === 'nothing' ? checked : 'sha256 given',
      resumed_from: 0,
    } as const
    const kept: FetchRecord = { task: task.task, ...found, fetched: new Date().toISOString(), drcorl: VERSION }
    // The folder may be one that is only read.
    await writeJson(recordOf(path), kept).catch(() => undefined)
  }
  return { task: task.task, path, status: 'present', bytes, sha256, checked, url: record?.url ?? redact(url) }
}

function checkMostBytes(value: number | undefined): void {
  if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) return
  throw new DrcorlError('Usage', `--max-bytes ${value} must be a whole number, 1 or more`)
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.href
  throw new DrcorlError('Usage', `--from "${text.replace(/\/\/[^/]*@/, '//***@')}" is no http or https address`, {
    hint: 'a file on this machine needs no fetching: train --dataset FILE',
  })
}

function checkSha256(text: string | undefined): void {
  if (text === undefined || /^[0-9a-fA-F]{64}$/.test(text)) return
  throw new DrcorlError('Usage', `--sha256 "${text}" is not 64 hexadecimal digits`)
}
