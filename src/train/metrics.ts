import { readFile } from 'node:fs/promises'
import { DrcorlError, describeFsError } from '../base/errors.js'
import { writeAtomic } from '../base/files.js'

interface Row {
  step: number
  phase: string
  phase_step: number
  seconds: number
  metrics: Record<string, number>
}

const FIXED = ['step', 'phase', 'phase_step', 'seconds'] as const

/**
 * `metrics.csv`: one row for each stretch of training steps, one column for each metric any phase has reported, means
 * over the stretch. The whole file is rewritten atomically, so a crash never leaves half a row.
 */
export class MetricsLog {
  private readonly rows: Row[] = []
  private readonly seen = new Set<string>()
  private dirty = false

  /** @param order of the columns; metrics that are not in it follow as they appear. */
  constructor(
    private readonly path: string,
    private readonly order: readonly string[] = [],
  ) {}

  /** Reads the rows up to and including a checkpoint's step; what was logged after it will be logged again. */
  static async resume(path: string, step: number, order: readonly string[] = []): Promise<MetricsLog> {
    const log = new MetricsLog(path, order)
    const text = await readFile(path, 'utf8').catch((error: unknown) => {
      throw new DrcorlError('Io', `cannot read ${path}: ${describeFsError(error)}`, { cause: error })
    })
    const [header = '', ...lines] = text.trimEnd().split('\n')
    const names = header.split(',').slice(FIXED.length)
    for (const line of lines) {
      const cells = line.split(',')
      const [at = '', phase = '', phaseStep = '', seconds = ''] = cells
      if (Number(at) > step) continue
      const told = names.map((name, index) => [name, cells[FIXED.length + index] ?? ''] as const)
      const metrics = Object.fromEntries(
        told.filter(([, cell]) => cell !== '').map(([name, cell]) => [name, Number(cell)]),
      )
      log.add({ step: Number(at), phase, phase_step: Number(phaseStep), seconds: Number(seconds), metrics })
    }
    return log
  }

  add(row: Row): void {
    for (const name of Object.keys(row.metrics)) this.seen.add(name)
    this.rows.push(row)
    this.dirty = true
  }

  /** Seconds of training up to the last row. */
  get seconds(): number {
    return this.rows.at(-1)?.seconds ?? 0
  }

  async flush(): Promise<void> {
    if (!this.dirty) return
    this.dirty = false
    const known = new Set(this.order.filter((name) => this.seen.has(name)))
    const columns = [...known, ...[...this.seen].filter((name) => !known.has(name))]
    const lines = this.rows.map((row) => {
      const metrics = columns.map((name) => row.metrics[name] ?? '')
      return [row.step, row.phase, row.phase_step, row.seconds.toFixed(3), ...metrics].join(',')
    })
    await writeAtomic(this.path, `${[[...FIXED, ...columns].join(','), ...lines].join('\n')}\n`)
  }
}

/** Mean of metrics over several native calls, each weighted by its steps. */
export class MetricsMean {
  private readonly sums = new Map<string, { sum: number; steps: number }>()

  add(metrics: Record<string, number | null>, steps: number): void {
    for (const [name, value] of Object.entries(metrics)) {
      // The core prints a value that is not finite as null.
      if (typeof value !== 'number') continue
      const entry = this.sums.get(name) ?? { sum: 0, steps: 0 }
      entry.sum += value * steps
      entry.steps += steps
      this.sums.set(name, entry)
    }
  }

  /** The means so far, then empty again. */
  take(): Record<string, number> {
    const means = Object.fromEntries([...this.sums].map(([name, { sum, steps }]) => [name, sum / steps]))
    this.sums.clear()
    return means
  }
}
