/** DSRL's dataset files from the network to this machine. */
import { readFile, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, makeFolder, sha256File, writeJson } from '../base/files.js'
import { lock } from '../base/lock.js'
import { openDataset } from '../native/dataset.js'
import { VERSION } from '../base/version.js'
import type { DatasetSummary } from './dataset.js'
import { type DownloadOptions, type Downloaded, download } from '../net/download.js'
import { dataFolders } from './locate.js'
import { type Task, recogniseTask, requireTask } from './tasks.js'

export interface FetchOptions extends Omit<DownloadOptions, 'verify'> {
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
  /** What the bytes were compared with; every file is read and its dimensions compared with the task's besides. */
  checked: Downloaded['checked'] | 'its record'
  url: string
}

/** Beside a fetched file as `.json`: where it came from and what it is. */
interface FetchRecord extends Downloaded {
  task: string
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
  const folder = resolve(options.dir ?? dataFolders()[0]!.path)
  await makeFolder(folder)
  const path = join(folder, fileName(task, url))
  const unlock = await lock(`${path}.lock`, 'fetching this file')
  try {
    if (!options.overwrite && (await exists(path))) return await present(task, path, url, options.sha256)
    const downloaded = await download(url, path, { ...options, verify: (part) => verify(task, part) })
    const { bytes, sha256, checked } = downloaded
    const record: FetchRecord = { task: task.task, ...downloaded, fetched: new Date().toISOString(), drcorl: VERSION }
    await writeJson(recordOf(path), record)
    return { task: task.task, path, status: 'fetched', bytes, sha256, checked, url }
  } finally {
    await unlock()
  }
}

const recordOf = (path: string): string => `${path}.json`

/** A file of other data keeps its own name: only the official one may have the official name. */
function fileName(task: Task, url: string): string {
  const name = basename(decodeURIComponent(new URL(url).pathname))
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

async function present(task: Task, path: string, url: string, wanted: string | undefined): Promise<FetchResult> {
  const record = await readFile(recordOf(path), 'utf8').then(
    (text) => JSON.parse(text) as Partial<FetchRecord>,
    () => undefined,
  )
  const sha256 = await sha256File(path)
  const expected = wanted?.toLowerCase() ?? record?.sha256
  if (expected !== undefined && expected !== sha256) {
    throw new DrcorlError('Data', `${path} has sha256 ${sha256}, not ${expected}: it is damaged or another file`, {
      hint: 'replace it: the same command with --overwrite',
    })
  }
  await verify(task, path)
  const { size } = await stat(path)
  const checked = wanted !== undefined ? 'sha256 given' : record?.sha256 === undefined ? 'nothing' : 'its record'
  return { task: task.task, path, status: 'present', bytes: size, sha256, checked, url: record?.url ?? url }
}

function checkUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol === 'http:' || url?.protocol === 'https:') return url.href
  throw new DrcorlError('Usage', `--from "${text}" is no http or https address`, {
    hint: 'a file on this machine needs no fetching: train --dataset FILE',
  })
}

function checkSha256(text: string | undefined): void {
  if (text === undefined || /^[0-9a-fA-F]{64}$/.test(text)) return
  throw new DrcorlError('Usage', `--sha256 "${text}" is not 64 hexadecimal digits`)
}
