/** The step-parity ledger: what every system's training took, so that a table does not hide who was given more. */
import { join } from 'node:path'
import { exists } from '../base/files.js'
import { labelOf } from '../report/compare.js'
import { formatNumber } from '../report/format.js'
import { type TrainedNetwork, readTrainedNetworks } from '../train/checkpoint.js'
import { RUN_FILES } from '../train/run-folder.js'
import type { FinishedCell } from './summary.js'
import { csvText, markdownTable } from './tables.js'

/** Updates of one phase; those that a run left out are none. */
export interface LedgerPhase {
  phase: string
  updates: number
  /** Rows of data of each; null where no parameter says. */
  batch: number | null
}

/** One system on one target. */
export interface LedgerRow {
  target: string
  algorithm: string
  label: string
  preset: string
  phases: LedgerPhase[]
  updates: number
  /** Rows of data that all updates drew; null where a batch is not known. */
  rows: number | null
  /** What its optimisers move: an ensemble is one entry. Null without a checkpoint. */
  networks: TrainedNetwork[] | null
  parameters: number | null
  environment_steps: number | null
  seconds: number | null
}

/**
 * One row for each target and algorithm, of its first run: seeds and limits take the same. Updates that several runs
 * share are those of this one.
 */
export async function ledgerOf(finished: readonly FinishedCell[]): Promise<LedgerRow[]> {
  const first = new Map<string, FinishedCell>()
  // One that made its own pretraining: its seconds are those of all its updates.
  const whole = finished.filter(({ run }) => !run.record.reused)
  for (const one of [...whole, ...finished]) {
    const key = JSON.stringify([one.cell.target.name, one.cell.algorithm])
    if (!first.has(key)) first.set(key, one)
  }
  return Promise.all([...first.values()].map(rowOf))
}

async function rowOf({ cell, run }: FinishedCell): Promise<LedgerRow> {
  const { record, result } = run
  const own = result?.wall_seconds
  const phases = (result?.phases ?? [])
    .filter(({ stage, left_out }) => stage === 'algorithm' && left_out !== true)
    .map(({ name = '', steps = 0 }): LedgerPhase => {
      return { phase: name, updates: steps, batch: batchOf(name, record.config) }
    })
  const checkpoint = join(cell.folder, RUN_FILES.checkpoint)
  const networks = (await exists(checkpoint)) ? await readTrainedNetworks(checkpoint) : null
  const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0)
  const known = phases.every(({ batch }) => batch !== null)
  return {
    target: cell.target.name,
    algorithm: cell.algorithm,
    label: labelOf(cell.algorithm),
    preset: cell.preset,
    phases,
    updates: sum(phases.map(({ updates }) => updates)),
    rows: known ? sum(phases.map(({ updates, batch }) => updates * batch!)) : null,
    networks,
    parameters: networks === null ? null : sum(networks.map(({ parameters }) => parameters)),
    environment_steps: result?.environment_steps?.training ?? null,
    // The models behind the certificate may be another run's.
    seconds: own === undefined ? null : own + (record.audit_models?.seconds ?? 0),
  }
}

/** The batch a phase draws, by the names of parameters: its own (`critic_batch` of `critics`), else the policy's. */
function batchOf(phase: string, config: Record<string, unknown>): number | null {
  const named = Object.keys(config).filter((name) => /(^|_)batch(_size)?$/.test(name))
  const own = named.find((name) => {
    const stem = name.replace(/_?batch(_size)?$/, '')
    return stem !== '' && phase.startsWith(stem)
  })
  const batch = config[own ?? ['batch_size', 'actor_batch'].find((name) => named.includes(name)) ?? '']
  return typeof batch === 'number' ? batch : null
}

const HEADER = [
  'system',
  'preset',
  'updates x batch',
  'updates',
  'rows drawn',
  'networks trained',
  'parameters',
  'env. steps',
  'seconds',
]

const count = (value: number | null): string => (value === null ? '–' : value.toLocaleString('en-US'))

const networksText = (networks: readonly TrainedNetwork[] | null): string =>
  networks === null ? '–' : `${networks.length}: ${networks.map(({ name }) => name).join(', ')}`

export const ledgerTable = (rows: readonly LedgerRow[]): { header: string[]; rows: string[][] } => ({
  header: HEADER,
  rows: rows.map((row) => [
    row.label,
    row.preset,
    row.phases.map(({ phase, updates, batch }) => `${phase} ${count(updates)} x ${count(batch)}`).join('; '),
    count(row.updates),
    count(row.rows),
    networksText(row.networks),
    count(row.parameters),
    count(row.environment_steps),
    row.seconds === null ? '–' : formatNumber(row.seconds),
  ]),
})

export const LEDGER_LEGEND =
  'updates x batch: gradient steps of each phase and the rows of data each draws; networks: what an optimiser moves, an ensemble is one; parameters: of all of them, targets and averages not counted; env. steps: taken in training; seconds: of one run, certificate included. The models behind the certificate are not counted: every system has the same'

export function ledgerMarkdown(rows: readonly LedgerRow[]): string {
  const targets = [...new Set(rows.map(({ target }) => target))]
  const tables = targets.map((target) => {
    const { header, rows: cells } = ledgerTable(rows.filter((row) => row.target === target))
    return `### ${target}\n\n${markdownTable(header, cells)}`
  })
  return ['## Step parity', `What every system was given: ${LEDGER_LEGEND}.`, ...tables].join('\n\n')
}

/** One line a target, system and phase. */
export function ledgerCsv(rows: readonly LedgerRow[]): string {
  const header = [
    'target',
    'algorithm',
    'preset',
    'phase',
    'updates',
    'batch',
    'networks',
    'parameters',
    'training_environment_steps',
    'training_seconds',
  ]
  return csvText(
    header,
    rows.flatMap((row) =>
      row.phases.map(({ phase, updates, batch }) => [
        row.target,
        row.algorithm,
        row.preset,
        phase,
        updates,
        batch,
        row.networks?.length ?? null,
        row.parameters,
        row.environment_steps,
        row.seconds,
      ]),
    ),
  )
}
