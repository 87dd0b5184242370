/** The paper's Figure 2a by us: how long every system of the registry takes to decide, at the published sizes. */
import { cpus } from 'node:os'
import { join } from 'node:path'
import { makeFolder, pathsIn, writeAtomic } from '../base/files.js'
import { groupBy } from '../base/groups.js'
import { loadSchema } from '../config/schema.js'
import { choosePreset } from '../benchmark/plan.js'
import { type PublishedTime, published } from '../benchmark/published.js'
import { readRunsBelow } from '../benchmark/runs.js'
import { summarize } from '../evaluate/statistics.js'
import { labelOf } from '../report/compare.js'
import { type LoadedPolicy, loadPolicy } from '../policy/node.js'
import { inferenceCsv, inferenceMarkdown, inferencePage, inferenceSvg } from './inference-page.js'
import { type Timing, timeBatch, timeSequential } from './timing.js'
import { type Sizes, makeUntrained, publishedPreset } from './untrained.js'

export const INFERENCE_FILES = {
  csv: 'inference.csv',
  markdown: 'inference.md',
  svg: 'inference.svg',
  report: 'inference.html',
} as const

/** Seconds that 1,000 decisions on one core may take, by the kind of the policy file. */
const TARGETS: Record<string, number> = {
  mlp: 0.005,
  budgeted: 0.005,
  switching: 0.02,
  latent: 0.05,
  sequence: 0.2,
  diffusion: 0.7,
  planner: 6.4,
}

/** Settings under which a planner plans as in the published times: one plan, which no value net leads. */
const UNGUIDED = { candidates: 1, guide_scale: 0 }

/** What runs that were evaluated scored. */
export interface RunScore {
  runs: number
  /** Mean normalised reward; the mean return where the task has no score range. */
  score: number
  normalized: boolean
  /** Mean normalised cost at most 1. */
  safe: boolean
}

/** One policy, timed. */
export interface InferenceRow {
  algorithm: string
  label: string
  /** How it decides, where there are several ways: `unguided`, `guided`. */
  plan: string | null
  preset: string
  /** Of the policy file. */
  kind: string
  runtime: string
  sequential: Timing
  batch: Timing
  /** Seconds for the sequential decisions; null for a way of deciding without one. */
  target: number | null
  met: boolean | null
  published: PublishedTime | null
  score: RunScore | null
}

export interface InferenceOptions extends Sizes {
  /** Default every registered algorithm. */
  algorithms?: readonly string[] | undefined
  /** `NAME,..`: the first that an algorithm has; where it has none, the one with the published sizes. */
  preset?: string | undefined
  /** Parameters by algorithm. */
  config: (algorithm: string) => Record<string, unknown>
  /** Folders of runs whose scores are laid beside the times. */
  runs: readonly string[]
  /** For each measurement of a policy. */
  seconds: number
  out: string
  command: string
  signal: AbortSignal
  onProgress?: ((text: string) => void) | undefined
}

export interface InferenceResult {
  /** What it ran on, for the head of the tables. */
  machine: string
  sizes: Sizes
  rows: InferenceRow[]
  files: Record<keyof typeof INFERENCE_FILES, string>
}

/**
 * Times every policy in turn in this process. Policies that were made before are kept, so the same command goes on; the
 * times are taken anew.
 *
 * @throws DrcorlError `Config` or `Usage` for what was asked for, `Cancelled` after the signal.
 */
export async function studyInference(options: InferenceOptions): Promise<InferenceResult> {
  const { out, obs_dim, act_dim, signal, onProgress } = options
  const schema = loadSchema()
  const algorithms = options.algorithms ?? Object.keys(schema.algorithms)
  const presets = algorithms.map((name) => choosePreset(name, options.preset, schema, publishedPreset(name, schema)))
  const scores = await scoresOf(options.runs)
  await makeFolder(out)
  const rows: InferenceRow[] = []
  for (const [index, algorithm] of algorithms.entries()) {
    const preset = presets[index]!
    const folder = join(out, 'policies', algorithm)
    onProgress?.(`${labelOf(algorithm)}: making the policy`)
    const wanted = { algorithm, preset, config: options.config(algorithm), folder, obs_dim, act_dim }
    const path = await makeUntrained(wanted, signal)
    onProgress?.(`${labelOf(algorithm)}: deciding`)
    for (const { plan, settings } of waysOf(await loadPolicy(path))) {
      const timed = time(await loadPolicy(path, settings), options)
      rows.push({ algorithm, label: labelOf(algorithm), plan, preset, ...judge(timed, algorithm, plan, scores) })
    }
  }
  const machine = machineOf()
  const sizes = { obs_dim, act_dim }
  const files = pathsIn(out, INFERENCE_FILES)
  const result = { machine, sizes, rows, files }
  const head = { command: options.command, picture: INFERENCE_FILES.svg }
  await writeAtomic(files.csv, inferenceCsv(result))
  await writeAtomic(files.svg, inferenceSvg(result))
  await writeAtomic(files.markdown, inferenceMarkdown(result, head))
  await writeAtomic(files.report, inferencePage(result, head))
  return result
}

/** A planner is led by value nets or not; everything else decides in one way. */
function waysOf({ settings }: LoadedPolicy): { plan: string | null; settings: Record<string, number> }[] {
  const led = Object.keys(UNGUIDED).every((name) => name in settings)
  if (!led) return [{ plan: null, settings: {} }]
  return [
    { plan: 'unguided', settings: UNGUIDED },
    { plan: 'guided', settings: {} },
  ]
}

type Timed = Pick<InferenceRow, 'kind' | 'runtime' | 'sequential' | 'batch'>

function time(policy: LoadedPolicy, { seconds, signal }: InferenceOptions): Timed {
  const sequential = timeSequential(policy, { seconds, signal })
  const batch = timeBatch(policy, sequential, { seconds, signal })
  return { kind: policy.metadata['kind'] ?? 'mlp', runtime: policy.runtime, sequential, batch }
}

function judge(
  timed: Timed,
  algorithm: string,
  plan: string | null,
  scores: ReadonlyMap<string, RunScore>,
): Omit<InferenceRow, 'algorithm' | 'label' | 'plan' | 'preset'> {
  // The published planner was not led; what is led has neither a target nor a number to stand beside.
  const comparable = plan === null || plan === 'unguided'
  const target = comparable ? (TARGETS[timed.kind] ?? null) : null
  return {
    ...timed,
    target,
    met: target === null ? null : timed.sequential.seconds <= target,
    published: (comparable && published().figure_2a.algorithms[algorithm]) || null,
    score: (plan === 'unguided' ? undefined : scores.get(algorithm)) ?? null,
  }
}

/** Mean scores of the evaluated runs in and below some folders, by algorithm. */
async function scoresOf(folders: readonly string[]): Promise<Map<string, RunScore>> {
  const runs = folders.length === 0 ? [] : await readRunsBelow(folders)
  const evaluated = runs.filter(({ evaluation }) => evaluation !== null)
  const mean = (values: number[]): number => summarize(values).mean
  return new Map(
    [...groupBy(evaluated, ({ record }) => record.algorithm)].map(([algorithm, group]) => {
      const own = group.map(({ evaluation }) => evaluation!)
      const rewards = own.map((one) => one.normalized_reward).filter((value) => value !== null)
      const normalized = rewards.length === own.length
      const costs = own.map((one) => one.normalized_cost?.dsrl ?? Number.POSITIVE_INFINITY)
      const score = mean(normalized ? rewards : own.map((one) => one.return.mean))
      return [algorithm, { runs: own.length, score, normalized, safe: mean(costs) <= 1 }]
    }),
  )
}

function machineOf(): string {
  const [first] = cpus()
  return `${first?.model.trim() ?? process.arch}, one thread, node ${process.version}`
}
