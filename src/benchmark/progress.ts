import { LiveLine, type ProgressStream } from '../base/live-line.js'
import { formatSeconds } from '../train/progress.js'
import type { Cell } from './plan.js'
import type { PoolEvent } from './pool.js'

const nameOf = ({ target, algorithm, variant, cost_limits, seed }: Cell): string =>
  `${target.name} ${algorithm} ${variant === null ? '' : `${variant} `}limit ${cost_limits.join(', ')} seed ${seed}`

/** What the worker processes are at, on one live line, and a line of its own for each finished cell. */
export class BenchmarkProgress {
  private readonly line: LiveLine
  private readonly running = new Map<Cell, string>()
  private done = 0

  constructor(stream: ProgressStream, now?: () => number) {
    this.line = new LiveLine(stream, now)
  }

  show(event: PoolEvent): void {
    if (event.type === 'finished') {
      const { cell, status, trained, error } = event.outcome
      this.running.delete(cell)
      this.done += 1
      const how = status === 'done' ? (trained ? 'done' : 'kept') : status
      this.line.note(`${nameOf(cell)}: ${how}${error === null ? '' : `: ${error.message}`}`)
      return
    }
    const { cell } = event
    const at =
      event.type === 'started'
        ? 'started'
        : `${event.phase} ${Math.floor(100 * event.share)} %  ETA ${formatSeconds(event.eta_seconds)}`
    this.running.set(cell, `${nameOf(cell)}: ${at}`)
    this.line.update(`${this.done} finished   ${[...this.running.values()].join('   ')}`)
  }

  note(text: string): void {
    this.line.note(text)
  }

  /** Ends a line left open. */
  close(): void {
    this.line.close()
  }
}
