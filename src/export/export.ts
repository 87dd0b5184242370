/** `exportPolicy`: a policy file in another format, checked by playing what was written. */
import { createHash } from 'node:crypto'
import { mkdtemp, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, relative } from 'node:path'
import { DrcorlError, codeOf, describeFsError } from '../base/errors.js'
import { makeFolder, readBytes, writeAtomic } from '../base/files.js'
import { type Mlp, isMlp, readMlp } from '../policy/mlp.js'
import { MlpPlayer } from '../policy/player.js'
import { loadPolicy } from '../policy/node.js'
import { checkPolicyFile } from '../policy/provenance.js'
import type { Policy } from '../policy/policy.js'
import { readSafetensors, writeSafetensors } from '../policy/safetensors.js'
import { EXPORT_FORMATS, type ExportFormat, TFJS_FILES } from './names.js'
import { writeOnnx } from './onnx.js'
import { openPolicy } from './open.js'
import { writeTfjs } from './tfjs.js'
import { own } from '../base/own.js'

export { EXPORT_FORMATS, type ExportFormat } from './names.js'

export interface ExportOptions {
  /** A `policy.safetensors`. */
  policy: string
  format: ExportFormat
  /** File to write, for tfjs the folder. */
  out: string
  /** What a conditioned policy is asked for; fixed in `onnx` and `tfjs`, the file's own value in `safetensors`. */
  settings?: Record<string, number>
  /** Replaces what is at `out`. */
  overwrite?: boolean
}

export interface ExportResult {
  format: ExportFormat
  policy: string
  /** What to open: the file, for tfjs its `model.json`. */
  path: string
  bytes: number
  obs_dim: number
  act_dim: number
  settings: Record<string, number>
  /** How the export was played; null where its runtime is not installed. */
  check: ExportCheck | null
}

export interface ExportCheck {
  runtime: string
  observations: number
  /** Of an action's components, as a share of the box where that is wider than 1. */
  max_difference: number
}

const CHECKED_OBSERVATIONS = 1000
/**
 * Beyond this it is another function. Sums of float32 in another order differ by less than 1e-6 in trained policies;
 * very steep networks may amplify that, which is no reason to refuse them.
 */
const MOST_DIFFERENCE = 1e-3

/**
 * Writes a policy in another format, with the sha256 of the policy in its metadata. The result takes raw observations
 * and gives actions in the box. It is played on random observations before it appears at `out`, where its runtime is
 * installed.
 *
 * @throws DrcorlError `Io`, `Data` or `Shape` (exit status 2) for a policy that cannot be read or is not that of its
 *   run, `Usage` where `out` is there already, `Data` for a kind of policy that the format cannot hold.
 */
export async function exportPolicy(options: ExportOptions): Promise<ExportResult> {
  const { policy, format, out, settings = {}, overwrite = false } = options
  if (own(EXPORT_FORMATS, format) === undefined) {
    throw new DrcorlError(
      'Usage',
      `format "${String(format)}" is unknown; known: ${Object.keys(EXPORT_FORMATS).join(', ')}`,
    )
  }
  const source = await readSource(options)
  await requireFree(out, overwrite)
  const scratch = await makeScratch(out)
  try {
    // Below the scratch folder, which nobody else may read: what is moved away has the mode that the user's mask gives.
    const written = join(scratch, EXPORT_FORMATS[format])
    const folder = format === 'tfjs' ? written : scratch
    const files = Object.entries(contents(source, format, relative(format === 'tfjs' ? out : dirname(out), policy)))
    await write(folder, files, out)
    const main = format === 'tfjs' ? TFJS_FILES.model : EXPORT_FORMATS[format]
    const check = await checkExport(source, join(folder, main))
    await replace(out, written, overwrite)
    return {
      format,
      policy,
      path: format === 'tfjs' ? join(out, main) : out,
      bytes: files.reduce((sum, [, content]) => sum + content.length, 0),
      obs_dim: source.reference.obs_dim,
      act_dim: source.reference.act_dim,
      settings: { ...source.settings, ...settings },
      check,
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** A folder beside `out`: what is moved from there appears whole. */
async function makeScratch(out: string): Promise<string> {
  await makeFolder(dirname(out))
  return mkdtemp(join(dirname(out), `.${basename(out)}.`)).catch((error: unknown) => {
    throw unwritable(out, error)
  })
}

async function write(
  folder: string,
  files: readonly (readonly [string, Uint8Array | string])[],
  out: string,
): Promise<void> {
  try {
    await makeFolder(folder)
    for (const [name, content] of files) await writeAtomic(join(folder, name), content)
  } catch (error) {
    throw unwritable(out, error instanceof DrcorlError ? error.cause : error)
  }
}

async function replace(out: string, written: string, overwrite: boolean): Promise<void> {
  try {
    if (overwrite) await rm(out, { recursive: true, force: true })
    await rename(written, out)
  } catch (error) {
    throw unwritable(out, error)
  }
}

function unwritable(out: string, error: unknown): DrcorlError {
  const hint = 'name a place that can be written with --out'
  return new DrcorlError('Io', `cannot write ${out}: ${describeFsError(error)}`, { cause: error, exitStatus: 2, hint })
}

/** A policy to export. */
export interface Source {
  bytes: Uint8Array
  path: string
  settings: Record<string, number>
  /** Plays the source as the export should. */
  reference: Policy
  /** Null for the other kinds. */
  mlp: Mlp | null
  /** What the metadata of an export say of this source. */
  origin: Record<string, string>
}

/** Reads the policy that is to be exported, or has been. */
export async function readSource({
  policy: path,
  format,
  settings = {},
}: Pick<ExportOptions, 'policy' | 'format' | 'settings'>): Promise<Source> {
  const bytes = await readBytes(path)
  await checkPolicyFile(path)
  const { metadata } = readSafetensors(bytes, path)
  const kind = metadata.get('kind') ?? 'mlp'
  const origin = originOf(bytes, metadata, settings)
  const drawn = kind === 'gaussian' && Number(settings['sample'] ?? metadata.get('setting.sample')) !== 0
  if (isMlp(kind) && !drawn) {
    const read = readMlp(bytes, path, settings)
    const mlp = { ...read, metadata: { ...read.metadata, ...origin } }
    return { bytes, path, settings: mlp.settings, reference: new MlpPlayer(basename(path), mlp), mlp, origin }
  }
  const reference = await loadPolicy(path, settings)
  if (format === 'safetensors')
    return { bytes, path, settings: { ...reference.settings }, reference, mlp: null, origin }
  throw new DrcorlError(
    'Data',
    `${path} is of kind "${kind}": --format ${format} holds kind "mlp" and the mean of "gaussian" only`,
    {
      hint: `a policy that draws or remembers is exported with --format safetensors`,
    },
  )
}

/** The hash of the policy; one that is asked for something else is not the one that was judged. */
function originOf(
  bytes: Uint8Array,
  metadata: ReadonlyMap<string, string>,
  settings: Record<string, number>,
): Record<string, string> {
  const policy_sha256 = createHash('sha256').update(bytes).digest('hex')
  const asBefore = Object.entries(settings).every(([name, value]) => Number(metadata.get(`setting.${name}`)) === value)
  return asBefore ? { policy_sha256 } : { policy_sha256, verdict: 'none' }
}

/** Metadata of a model that was exported: the policy file, seen from the model's folder, and its SHA-256. */
export const EXPORTED_FROM = 'exported_from'
export const EXPORTED_SHA256 = 'policy_sha256'

/**
 * Files of the export, by name; equal arguments give equal bytes.
 *
 * @param from the policy's file, seen from the folder of the export.
 */
export function contents(
  { bytes, path, settings, mlp, origin }: Source,
  format: ExportFormat,
  from: string,
): Record<string, Uint8Array> {
  if (mlp !== null && format !== 'safetensors') {
    const known = { ...mlp, metadata: { ...mlp.metadata, [EXPORTED_FROM]: from.replaceAll('\\', '/') } }
    return format === 'tfjs' ? writeTfjs(known) : { [EXPORT_FORMATS.onnx]: writeOnnx(known) }
  }
  const file = readSafetensors(bytes, path)
  const own = Object.entries(settings).map(([name, value]): [string, string] => [`setting.${name}`, String(value)])
  // Untouched where nothing was asked: checksums of the file stay good.
  if (own.every(([key, value]) => Number(file.metadata.get(key)) === Number(value))) {
    return { [EXPORT_FORMATS.safetensors]: bytes }
  }
  for (const [key, value] of [...own, ...Object.entries(origin)]) file.metadata.set(key, value)
  return { [EXPORT_FORMATS.safetensors]: writeSafetensors(file) }
}

async function requireFree(out: string, overwrite: boolean): Promise<void> {
  const found = await stat(out).catch(() => null)
  if (found === null) return
  if (!overwrite)
    throw new DrcorlError('Usage', `${out} is there already`, { hint: 'give another --out, or --overwrite' })
  // Replacing a folder removes all of it, so it must be an earlier export.
  if (!found.isDirectory() || (await stat(join(out, TFJS_FILES.model)).catch(() => null)) !== null) return
  throw new DrcorlError('Usage', `${out} is a folder without ${TFJS_FILES.model}, which is not replaced`)
}

/**
 * Plays source and export on the same random observations.
 *
 * @throws DrcorlError `Internal` where they differ.
 */
async function checkExport({ reference, mlp }: Source, path: string): Promise<ExportCheck | null> {
  let exported: Policy
  try {
    exported = await openPolicy(path)
  } catch (error) {
    if (codeOf(error) === 'Runtime') return null
    throw error
  }
  const observations = randomObservations(reference.obs_dim, mlp)
  const none = { rewards: new Float32Array(CHECKED_OBSERVATIONS), costs: new Float32Array(CHECKED_OBSERVATIONS) }
  const rows = Array.from({ length: CHECKED_OBSERVATIONS }, (_, row) => row)
  for (const policy of [reference, exported]) policy.reset(rows)
  const [wanted, given] = [await reference.act(observations, none), await exported.act(observations, none)]
  const width = (i: number): number => Math.max(1, mlp === null ? 1 : mlp.high[i]! - mlp.low[i]!)
  const difference = (i: number): number => Math.abs(given[i]! - wanted[i]!) / width(i % reference.act_dim)
  let max_difference = given.length === wanted.length ? 0 : Number.NaN
  // Math.max lets NaN through.
  for (let i = 0; i < wanted.length; i += 1) max_difference = Math.max(max_difference, difference(i))
  if (!(max_difference <= MOST_DIFFERENCE)) {
    const text = `the ${extname(path)} export gives other actions than the policy, difference ${max_difference}`
    throw new DrcorlError('Internal', `${text}; please report it`)
  }
  return { runtime: exported.runtime ?? 'unknown', observations: CHECKED_OBSERVATIONS, max_difference }
}

/**
 * Normal around the data the policy was trained on, three standard deviations wide;
 * unit normal where the file does not say.
 */
function randomObservations(obs_dim: number, mlp: Mlp | null): Float32Array {
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())
  return Float32Array.from({ length: CHECKED_OBSERVATIONS * obs_dim }, (_, at) => {
    const i = at % obs_dim
    return mlp === null ? normal() : mlp.mean[i]! + 3 * normal() * mlp.std[i]!
  })
}
