import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { datasetEpisodes, datasetEpisodesCsv } from '../../src/data/episodes.js'
import { Random } from '../../src/envs/random.js'
import { findEnv } from '../../src/envs/registry.js'
import { makeDataset } from '../../src/envs/scripted.js'
import { type Evaluation, describe, episodesCsv } from '../../src/evaluate/evaluate.js'
import type { EpisodeResult } from '../../src/envs/rollout.js'
import { datasetFromColumns } from '../../src/native/dataset.js'

/** What a made-up run is about. */
export interface FixtureOptions {
  algorithm?: string
  returns?: [mean: number, std: number]
  costs?: [mean: number, std: number]
  /** Of the certificate; null for an algorithm that gives none. */
  verdict?: 'certified' | 'not certified' | null
  reasons?: string[]
  evaluated?: boolean
  /** Merged over the certificate. */
  certificate?: Record<string, unknown>
  /** Merged over the run's parameters. */
  run?: Record<string, unknown>
}

const PHASES: Record<string, [name: string, steps: number, metrics: string[]][]> = {
  drcorl: [
    ['model', 6001, ['model_loss']],
    ['behavior', 8000, ['behavior_loss']],
    ['warm-up', 3000, ['policy_loss', 'action_mse']],
    ['critics', 9500, ['reward_critic_loss', 'cost_critic_loss']],
    ['adaptation', 2500, ['policy_loss', 'cost_critic_loss', 'cost_estimate', 'beta']],
  ],
  bc: [['cloning', 8000, ['actor_loss']]],
}

/** Writes a run folder that looks like a finished `train` and `evaluate`, with numbers of the right size. */
export async function writeRun(folder: string, options: FixtureOptions = {}): Promise<string> {
  const { algorithm = 'drcorl', verdict = 'certified', evaluated = true } = options
  await mkdir(folder, { recursive: true })
  const json = (name: string, value: unknown): Promise<void> => writeFile(join(folder, name), JSON.stringify(value))
  const phases = PHASES[algorithm] ?? PHASES['bc']!
  await json('config.json', record(algorithm, options.run))
  await writeFile(join(folder, 'metrics.csv'), metrics(phases))
  const data = await datasetFromColumns(makeDataset('point-circle', { episodes: 200 }))
  await writeFile(join(folder, 'dataset_episodes.csv'), datasetEpisodesCsv(datasetEpisodes(data)))
  await json('result.json', {
    status: 'done',
    algorithm,
    steps: phases.reduce((sum, [, steps]) => sum + steps, 0),
    wall_seconds: algorithm === 'drcorl' ? 162 : 11,
    environment_steps: { training: 0 },
    verdict,
    policies: ['policy.safetensors'],
    finished: '2026-01-01T00:03:00.000Z',
  })
  if (verdict !== null)
    await json('certificate.json', { ...certificate(verdict, options.reasons), ...options.certificate })
  if (evaluated) await writeEvaluation(folder, options)
  return folder
}

function record(algorithm: string, run: Record<string, unknown> = {}): unknown {
  const { score_range, task } = findEnv('point-circle')!
  return {
    format: 'drcorl-run/1',
    created: '2026-01-01T00:00:00.000Z',
    versions: { drcorl: '0.1.0', node: 'v20.20.2' },
    algorithm,
    preset: 'quick',
    run: {
      cost_limit: 10,
      seed: 0,
      device: 'auto',
      threads: 1,
      gamma: 0.99,
      episode_length: 200,
      batch_size: 256,
      ...run,
    },
    config: {
      gate: 'model_rollout',
      ensemble: 4,
      ucb_k: 2,
      slack: 0.2,
      beta: [0.1, 0.3],
      hidden: [128, 128],
      policy_ema: 0.99,
    },
    origins: {
      cost_limit: 'flag --cost-limit',
      hidden: 'preset quick',
      batch_size: 'preset quick',
      ensemble: 'preset quick',
    },
    dataset: {
      source: 'env:point-circle?episodes=500&seed=0',
      kind: 'env',
      sha256: '9f2c7e0d6a51b1c38f8e0f6c7ab0e1c4f6cf1a0e6b6d7f1a2b3c4d5e6f708192',
      transitions: 100000,
      episodes: 500,
      obs_dim: 8,
      act_dim: 2,
    },
    task: {
      task: 'point-circle',
      env: 'point-circle',
      episode_length: task.episode_length,
      obs_dim: 8,
      act_dim: 2,
      ...score_range,
    },
    environment: null,
  }
}

function metrics(phases: [string, number, string[]][]): string {
  const random = new Random(1)
  const names = [...new Set(phases.flatMap(([, , own]) => own))]
  const lines = [['step', 'phase', 'phase_step', 'seconds', ...names].join(',')]
  let step = 0
  for (const [phase, steps, own] of phases) {
    const every = Math.ceil(steps / 200)
    for (let at = every; at <= steps; at += every) {
      step += every
      const cells = names.map((name) => (own.includes(name) ? value(name, at / steps, random).toPrecision(6) : ''))
      lines.push([step, phase, at, (step / 140).toFixed(3), ...cells].join(','))
    }
  }
  return `${lines.join('\n')}\n`
}

function value(name: string, progress: number, random: Random): number {
  const noise = 1 + 0.08 * random.normal()
  if (name === 'cost_estimate')
    return 7.6 + 26 * Math.exp(-4 * progress) * noise + 1.5 * Math.sin(24 * progress) + 0.4 * noise
  if (name === 'beta') return 0.1 + 0.2 * progress
  return (0.02 + 2 * Math.exp(-9 * progress)) * noise * (name.length / 10)
}

function certificate(verdict: string, reasons?: string[]): Record<string, unknown> {
  const estimates = {
    model_rollout: {
      cost: { mean: 3.1, std: 1.2, widening: 0.2, upper: 4.5 },
      return: { mean: 236.2, std: 5.1 },
      clipped: 0.01,
      horizon: 50,
      distance: 0.6,
      within_limit: null,
      worst: null,
    },
    critic_ucb: {
      dataset: { mean: 9.8, ucb: 16.2 },
      initial: { mean: 5.4, ucb: 8.9 },
      safe: { mean: 6.1, ucb: 9.7 },
    },
    fqe: { cost: { mean: 8.2, ucb: 12.4 }, return: { mean: 221.4 } },
  }
  return {
    verdict,
    reasons: reasons ?? [
      'model rollout: mean + std 4.5 is at most 0.8 of the limit 10',
      'the model reproduces held-out episodes',
    ],
    cost_limit: 10,
    decision: { estimator: 'model_rollout', certify: 'mean', level: null, bound: 4.5, threshold: 8 },
    data: { episodes: 500, whole_episodes: 499 },
    thresholds: { certificate_k: 1 },
    gate: { requested: 'model_rollout', used: 'model_rollout', fallback_reason: null },
    estimates,
    validity: {
      valid: true,
      reasons: [],
      held_out_episodes: 50,
      horizon: 50,
      whole: 200,
      ladder: [
        { horizon: 50, passed: true, reasons: [], cost_correlation: 0.961, cost_bias: 0.02 },
        { horizon: 200, passed: false, reasons: ['costs correlate 0.35 with the logged ones, 0.90 is needed'] },
      ],
    },
    self_test: {
      behaviors: [{ episodes: 60, logged: 12.5, estimated: 11.25, shortfall: 0.11, distance: 0.7 }],
      shortfall: 0.11,
      reach: 0.9,
    },
    branches: { reward: 1612, band: 534, cost: 354 },
    policy_distance: { action_mse: 0.193, score_distance: 0.41 },
    policies: {
      averaged: estimates,
      selected: { ...estimates, model_rollout: { cost: { mean: 2.2, std: 0.9, upper: 3.1 } } },
    },
    environment_steps: 0,
  }
}

async function writeEvaluation(folder: string, options: FixtureOptions): Promise<void> {
  const { returns = [231, 5], costs = [0.7, 1.6], algorithm = 'drcorl' } = options
  const { score_range } = findEnv('point-circle')!
  const measure = { cost_limit: 10, score_range }
  const files = algorithm === 'drcorl' ? ['policy.safetensors', 'policy.selected.safetensors'] : ['policy.safetensors']
  const played = files.map((policy, index) => ({ policy, episodes: episodes(returns, costs, index) }))
  const [main, selected] = played.map((one) =>
    describe(
      { policy: one.policy, sha256: 'a'.repeat(64), runtime: 'native' },
      one.episodes,
      { steps: 4000, seconds: 0.1 },
      measure,
    ),
  )
  const evaluation: Evaluation = {
    format: 'drcorl-evaluation/1',
    created: '2026-01-01T00:04:00.000Z',
    ...main!,
    env: 'point-circle',
    seed: 0,
    cost_limit: 10,
    settings: {},
    score_range,
    selected: selected ?? null,
    by_limit: null,
    wall_seconds: 0.2,
  }
  await writeFile(join(folder, 'evaluation.json'), JSON.stringify(evaluation))
  await writeFile(join(folder, 'episodes.csv'), episodesCsv(played))
}

function episodes(returns: [number, number], costs: [number, number], index: number): EpisodeResult[] {
  const random = new Random(11, index)
  return Array.from({ length: 20 }, (_, episode) => ({
    episode,
    seed: episode,
    return: returns[0] - 6 * index + returns[1] * random.normal(),
    cost: Math.max(0, Math.round(costs[0] + costs[1] * random.normal())),
    length: 200,
    terminated: false,
  }))
}
