/** A certificate again: a policy judged by other episodes than those of its run, or under another limit. */
import { resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { VERSION } from '../base/version.js'
import { admit } from '../config/admit.js'
import { costsOf, limitsOf, named } from '../config/limits.js'
import type { Certificate } from '../config/results.js'
import { loadSchema, parametersOf } from '../config/schema.js'
import type { RunConfig } from '../config/types.js'
import { type Dataset, loadDataset } from '../data/dataset.js'
import { Certifier } from '../native/certifier.js'
import type { DatasetColumns } from '../native/dataset.js'
import type { ProgressEvent } from '../train/events.js'
import { Pace } from '../train/pace.js'
import { statedEpisodeLength } from '../train/run-folder.js'
import { upcoming } from '../train/run.js'
import { type Candidate, findCandidate } from './candidates.js'

export const CERTIFICATION_FORMAT = 'drcorl-certification/1'

/** What to judge, by which episodes, and how. */
export interface CertifyOptions {
  /**
   * Run folders, policy files, or models that `exportPolicy` wrote (`policy.onnx`, the folder of a layers model).
   * Several are judged by the same models from the same initial states.
   */
  policies: string | readonly string[]
  /** As `train` takes it; default the data of the runs. */
  dataset?: string | DatasetColumns | Dataset | undefined
  /** Limit to judge by; default the `cost_limit` of `settings`, or that of the runs. */
  cost_limit?: number | undefined
  /** Which policy of run folders, by its name in the certificate; default the one that ships. */
  policy?: string | undefined
  /** What conditioned policies are asked for instead of what their files say. */
  settings?: Record<string, number> | undefined
  /** Parameters of the judgement, e.g. `{ audit_members: 5 }`; default those of the first run. */
  config?: Partial<RunConfig> | undefined
  /**
   * Folder in which judgements of the same data, seed and parameters of the models share these; those of runs are
   * others. Default none.
   */
  auditModels?: string | undefined
  /** Bytes that the file of the dataset may take in memory, see `loadDataset`. */
  maxMemory?: number | undefined
  signal?: AbortSignal | undefined
  onProgress?: ((progress: ProgressEvent) => void) | undefined
}

/** One policy, judged. */
export interface PolicyCertification {
  /** As it was named. */
  path: string
  /** The policy file that was played. */
  policy: string
  sha256: string
  algorithm: string | null
  /** What it was asked for, where that was not what its file says. */
  settings: Record<string, number>
  /**
   * Where `path` is an exported model: its format. The file it was exported from was played; exporting that again gives
   * the model, byte for byte.
   */
  exported: string | null
  /**
   * What it was learnt from: `these` data that it is judged by, the `rest` of them (without the episodes that the
   * models were tested on), or data of another hash, `others`; null where the file does not say.
   */
  learnt_from: 'these' | 'rest' | 'others' | null
  certificate: Certificate
}

/** What `certify` found. */
export interface Certification {
  format: typeof CERTIFICATION_FORMAT
  created: string
  versions: { drcorl: string; node: string }
  /** The episodes judged by. */
  dataset: { source: string; kind: Dataset['kind']; sha256: string; transitions: number; episodes: number }
  /** Parameters that are no defaults. */
  run: Record<string, unknown>
  cost_limit: number
  policies: PolicyCertification[]
  /** Every policy is certified. */
  certified: boolean
  wall_seconds: number
}

/** Of a run's parameters those that say how it learns, not how its policy is judged. */
const OF_TRAINING = /^(mode|hybrid_.*|model_members|selection_members)$/

/** Parameters of the judgement. */
export const judgementParameters = (): ReturnType<typeof parametersOf> =>
  parametersOf(loadSchema().run.schema).filter(({ name }) => !OF_TRAINING.test(name))

/**
 * Judges policies without training them: the auditing models are trained on the given episodes and tested on some that
 * they have not seen, then every policy is estimated in them. Nothing is written but shared models.
 *
 * @throws DrcorlError `Usage`, `Config`, `Io`, `Data` or `Shape` (exit status 2) for bad input, before any work;
 *   `Cancelled` after the signal, `Diverged` or `Torch` from the core.
 */
export async function certify(options: CertifyOptions): Promise<Certification> {
  const started = performance.now()
  const names = [options.policies].flat()
  if (names.length === 0) throw new DrcorlError('Usage', 'there is no policy to certify')
  const { settings = {} } = options
  const candidates = await Promise.all(names.map((path) => findCandidate(path, options.policy, settings)))
  requireAsked(settings, candidates)
  const run = parameters(options, candidates)
  const episode_length = statedEpisodeLength(run)
  const { maxMemory } = options
  const dataset = await loadDataset(source(options, candidates), { episode_length, maxMemory, costs: costsOf(run) })
  const own = candidates.map(({ record }) => record && record.dataset.sha256 === dataset.sha256)
  // Episodes that were kept from a run are held out again where the run's own data come again, and from no others.
  const judged = own.every(Boolean) || options.config?.holdout !== undefined ? run : { ...run, holdout: 0 }
  const policies = candidates.map(({ policy, settings: asked }) => ({ path: policy, settings: asked }))
  const certifier = await Certifier.create(dataset.native, { run: judged, policies })
  try {
    if (options.auditModels !== undefined) await certifier.shareAudit(options.auditModels, dataset.sha256)
    await work(certifier, options)
    const certificates = await certifier.certificates()
    const { transitions, episodes } = dataset.summary
    const { source: name, kind, sha256 } = dataset
    return {
      format: CERTIFICATION_FORMAT,
      created: new Date().toISOString(),
      versions: { drcorl: VERSION, node: process.version },
      dataset: { source: kind === 'file' ? resolve(name) : name, kind, sha256, transitions, episodes },
      run: judged,
      cost_limit: Number(judged['cost_limit']),
      policies: candidates.map((candidate, index) => {
        const { path, policy, sha256: hash, algorithm, settings: asked, exported } = candidate
        const certificate = { ...certificates[index]!, ...candidate.training }
        const learnt_from = learntFrom(candidate, sha256, judged)
        return { path, policy, sha256: hash, algorithm, settings: asked, exported, learnt_from, certificate }
      }),
      certified: certificates.every(({ verdict }) => verdict === 'certified'),
      wall_seconds: (performance.now() - started) / 1000,
    }
  } finally {
    certifier.dispose()
  }
}

function learntFrom(
  { record, learnt }: Candidate,
  sha256: string,
  judged: Record<string, unknown>,
): PolicyCertification['learnt_from'] {
  if (learnt === undefined) return null
  if (learnt !== sha256) return 'others'
  const { holdout, seed } = record?.run ?? {}
  return Number(holdout ?? 0) > 0 && holdout === judged['holdout'] && seed === judged['seed'] ? 'rest' : 'these'
}

/** Steps to the end, or to the signal. */
async function work(certifier: Certifier, { signal, onProgress }: CertifyOptions): Promise<void> {
  const pace = new Pace()
  const cancel = (): void => certifier.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    for (let status = await certifier.status(); !status.done;) {
      if (signal?.aborted) throw new DrcorlError('Cancelled', 'stopped before every policy was judged')
      const before = status.step
      const started = performance.now()
      status = await certifier.run(pace.next(upcoming(status).phase))
      pace.measured(status.step - before, (performance.now() - started) / 1000)
      const { phase, phase_step, phase_steps, step, steps, metrics } = status
      const left = phase_steps - phase_step
      const eta_seconds = pace.eta(left, steps - step - left)
      const at = { phase, phase_step, phase_steps, step, steps, metrics }
      onProgress?.({ type: 'progress', ...at, steps_per_second: pace.rate, eta_seconds })
    }
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}

/** The parameters of the first run, then what was asked for. */
function parameters({ cost_limit, config = {}, settings = {} }: CertifyOptions, candidates: Candidate[]) {
  const first = candidates.find(({ record }) => record !== null)?.record?.run ?? {}
  const known = new Set(judgementParameters().map(({ name }) => name))
  const kept = Object.entries(first).filter(([name]) => known.has(name))
  const limits = config.limits === undefined ? commonLimits(candidates) : named(config.limits)
  const judged: Record<string, unknown> = { ...Object.fromEntries(kept), ...config, limits }
  // The first of several limits; the core refuses another one beside them.
  const first_limit = limitsOf(judged)[0]?.[1]
  const limit = cost_limit ?? config.cost_limit ?? settings['cost_limit'] ?? first_limit ?? commonLimit(candidates)
  // A single one by its name may be replaced by another number.
  const [name, more] = Object.keys(limits as object)
  const moved =
    name === undefined || more !== undefined || config.limits !== undefined ? {} : { limits: { [name]: limit } }
  const run = { ...judged, ...moved, cost_limit: limit }
  admit(run, judgementParameters(), 'a certificate')
  return run
}

/** The limits by names that all were learnt under. */
function commonLimits(candidates: readonly Candidate[]): Record<string, number> {
  const [first, ...others] = candidates
  const show = ({ limits }: Candidate): string => JSON.stringify(Object.entries(limits))
  const other = others.find((one) => show(one) !== show(first!))
  if (other === undefined || first === undefined) return first?.limits ?? {}
  throw new DrcorlError('Usage', `${first.path} and ${other.path} are for limits on other costs, or for other limits`, {
    hint: 'give the limits to judge by: --limit NAME=NUMBER',
  })
}

/** The limit that all were learnt under, where no other is asked for. */
function commonLimit(candidates: readonly Candidate[]): number {
  const limits = candidates.map(({ limit }) => limit)
  const [first] = limits
  const hint = 'give --cost-limit'
  if (first === undefined || limits.includes(undefined)) {
    const { path } = candidates[limits.indexOf(undefined)]!
    throw new DrcorlError('Usage', `${path} does not say which cost limit it is for`, { hint })
  }
  const other = limits.findIndex((limit) => limit !== first)
  if (other < 0) return first
  const [one, two] = [candidates[0]!.path, candidates[other]!.path]
  throw new DrcorlError('Usage', `${one} is for cost limit ${first}, ${two} for ${limits[other]}`, { hint })
}

/** The data asked for, or those that all runs were trained on. */
function source({ dataset }: CertifyOptions, candidates: readonly Candidate[]): string | DatasetColumns | Dataset {
  if (dataset !== undefined) return dataset
  const hint = 'name episodes with --dataset'
  const [first] = candidates
  for (const { path, record } of candidates) {
    if (record === null) throw new DrcorlError('Usage', `${path} is a policy by itself, without data`, { hint })
    if (record.dataset.kind === 'columns') {
      throw new DrcorlError('Usage', `${path} was trained on columns: pass the same ones, or others, as dataset`)
    }
    if (record.dataset.sha256 !== first!.record?.dataset.sha256) {
      throw new DrcorlError('Usage', `${first!.path} and ${path} were trained on different data`, { hint })
    }
  }
  return first!.record!.dataset.source
}

/** A setting that no policy has is a mistake. */
function requireAsked(settings: Record<string, number>, candidates: readonly Candidate[]): void {
  const unknown = Object.keys(settings).find((name) => !candidates.some((one) => name in one.settings))
  if (unknown === undefined) return
  throw new DrcorlError('Usage', `${unknown} is no setting of ${candidates.map(({ path }) => path).join(' or ')}`)
}
