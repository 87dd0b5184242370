/**
 * What binds a policy to its run: certificate and result name the sha256 of every policy file beside them. Whoever
 * opens a policy of a run checks it here.
 */
import { readdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { readInput, sha256File } from '../base/files.js'
import { MOST_BYTES } from './safetensors.js'

/** Names in a run folder. */
export const POLICY_FILE = 'policy.safetensors'
export const CERTIFICATE_FILE = 'certificate.json'
export const RESULT_FILE = 'result.json'

/** Policies of a run beside the one to use, by their names: the candidate selected offline, the mixture of iterates. */
export const BESIDE = { selected: 'policy.selected.safetensors', mixture: 'policy.mixture.safetensors' } as const

/**
 * `verified`: the file has the hash that its run names. `unverified`: the run names none, as those of earlier versions.
 * `absent`: the run names one, but the policy is not there.
 */
export type Provenance = 'verified' | 'unverified' | 'absent'

/** What a reader should know of a run's provenance; null where all is as it should be. */
export function provenanceNote(provenance: Provenance | null): string | null {
  if (provenance === 'unverified') {
    return 'unverified: the run names no sha256 of its policies, so nothing tells whether these are the ones it judged'
  }
  return provenance === 'absent' ? 'a policy that the run names is not in its folder' : null
}

/** A policy file as a run names it. */
interface Named {
  file: string
  sha256: string
  /** The file that says so. */
  by: string
}

/** Those of a run are called `policy.safetensors` and `policy.NAME.safetensors`. */
const OF_RUN = /^policy(\.[^.]+)?\.safetensors$/
/** Whoever evaluates, exports or reports takes these for the run's own. */
const TAKEN: ReadonlySet<string> = new Set([POLICY_FILE, ...Object.values(BESIDE)])
/** Bytes of the largest certificate that is read; one with a thousand visits has 10^5. */
const MOST_TEXT = 1 << 26
const HINT = 'put the policy of this run back, or evaluate the other one by itself, in a folder of its own'

/**
 * Checks a policy file against the certificate and the result of a run that lie beside it.
 *
 * @returns null for a file beside which no run lies, or that is called otherwise than the policies of a run.
 * @throws DrcorlError `Data` naming the file, its sha256 and the one expected, for a policy of another run.
 */
export async function checkPolicyFile(path: string): Promise<Provenance | null> {
  const file = basename(path)
  const named = OF_RUN.test(file) ? await namedIn(dirname(path)) : null
  if (named === null) return null
  if (named.length === 0) return 'unverified'
  const own = named.filter((one) => one.file === file)
  if (own.length === 0 && !TAKEN.has(file)) return null
  if (own.length === 0) {
    const known = [...new Set(named.map((one) => one.file))].join(', ')
    const text = `${path} is no policy of the run it lies in: ${named[0]!.by} names ${known}`
    throw new DrcorlError('Data', `${text}; its sha256 is ${await hashOf(path)}, expected none`, { hint: HINT })
  }
  const found = await hashOf(path)
  const other = own.find(({ sha256 }) => sha256 !== found)
  if (other === undefined) return 'verified'
  const text = `${path} is not the policy that ${other.by} speaks of: its sha256 is ${found}, expected ${other.sha256}`
  throw new DrcorlError('Data', text, { hint: HINT })
}

/**
 * Checks every policy of a run folder.
 *
 * @returns null before the run has ended.
 * @throws DrcorlError `Data` as `checkPolicyFile`.
 */
export async function checkRunPolicies(folder: string): Promise<Provenance | null> {
  const named = await namedIn(folder)
  if (named === null) return null
  const present = (await readdir(folder)).filter((name) => OF_RUN.test(name))
  for (const name of present) await checkPolicyFile(join(folder, name))
  if (named.length === 0) return 'unverified'
  return named.every(({ file }) => present.includes(file)) ? 'verified' : 'absent'
}

/**
 * Checks the sha256 of the policy that something in a run folder was measured on.
 *
 * @throws DrcorlError `Data` naming `path` and both hashes where the run names another one.
 */
export async function checkMeasured(path: string, policy: string, sha256: string | null | undefined): Promise<void> {
  const other = (await namedIn(dirname(path)))?.find((one) => one.file === policy && one.sha256 !== sha256)
  if (other === undefined || sha256 === null || sha256 === undefined) return
  const text = `${path} was measured on another ${policy}: its sha256 was ${sha256}, expected ${other.sha256}`
  throw new DrcorlError('Data', `${text} as in ${other.by}`, {
    hint: `measure the policy of the run: drcorl evaluate ${dirname(path)}`,
  })
}

/** The hash of a file that can be a policy: a pipe or a device may never end. */
async function hashOf(path: string): Promise<string> {
  const found = await stat(path).catch(() => null)
  if (found === null || (found.isFile() && found.size <= MOST_BYTES)) return sha256File(path)
  throw new DrcorlError('Data', `${path} is no policy: it is no regular file of at most ${MOST_BYTES} bytes`)
}

/** What the files of a run name; null where none of them is there. */
async function namedIn(folder: string): Promise<Named[] | null> {
  const paths = [join(folder, CERTIFICATE_FILE), join(folder, RESULT_FILE)]
  const found = await Promise.all(paths.map(readNamed))
  return found.every((one) => one === null) ? null : found.flatMap((one) => one ?? [])
}

async function readNamed(path: string): Promise<Named[] | null> {
  const isFile = await stat(path).then(
    (found) => found.isFile(),
    () => false,
  )
  if (!isFile) return null
  const listed = listOf(parse(await readInput(path, MOST_TEXT), path))
  if (listed === undefined) return []
  if (!Array.isArray(listed)) throw damaged(path)
  return listed.map((one: unknown): Named => {
    const { file, sha256 } = (one ?? {}) as Record<string, unknown>
    if (typeof file === 'string' && typeof sha256 === 'string') return { file, sha256, by: path }
    throw damaged(path)
  })
}

const listOf = (content: unknown): unknown =>
  typeof content === 'object' && content !== null && 'policy_files' in content ? content.policy_files : undefined

function parse(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch (error) {
    throw new DrcorlError('Data', `${path} is not valid JSON: ${(error as Error).message}`, { cause: error })
  }
}

const damaged = (path: string): DrcorlError =>
  new DrcorlError('Data', `${path}: policy_files must be a list of objects with file and sha256`)
