import { type ProgressStream, formatSeconds } from '../train/progress.js'
import type { Cell } from './plan.js'
import type { PoolEvent } from './pool.js'

/** Between plain lines of one running cell when the stream is no terminal. */
const LINE_SECONDS = 30

const nameOf = ({ target, algorithm, cost_limit, seed }: Cell): string =>
  `${target.name} ${algorithm} limit ${cost_limit} seed ${seed}`

/** What the worker processes are at: on a terminal one live line, elsewhere a line now and then; a line for each finished cell. */
export class BenchmarkProgress {
  private readonly running = new Map<Cell, { text: string; shown: number }>()
  private openLine = false

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number = () => performance.now() / 1000,
  ) {}

  show(event: PoolEvent): void {
    if (event.type === 'finished') {
      this.running.delete(event.outcome.cell)
      const { cell, status, trained, error } = event.outcome
      const how = status === 'done' ? (trained ? 'done' : 'kept') : status
      this.note(`${nameOf(cell)}: ${how}${error === null ? '' : `: ${error.message}`}`)
    } else if (event.type === 'started') {
      this.running.set(event.cell, { text: `${nameOf(event.cell)}: started`, shown: Number.NEGATIVE_INFINITY })
    } else {
      const { cell, phase, share, eta_seconds: eta } = event
      const text = `${nameOf(cell)}: ${phase} ${Math.floor(100 * share)} %  ETA ${formatSeconds(eta)}`
      const shown = this.running.get(cell)?.shown ?? Number.NEGATIVE_INFINITY
      this.running.set(cell, { text, shown })
      this.live(cell, text, shown)
    }
  }

  /** Ends a line left open. */
  close(): void {
    if (this.openLine) this.stream.write('\n')
    this.openLine = false
  }

  private live(cell: Cell, text: string, shown: number): void {
    if (this.stream.isTTY) {
      const all = [...this.running.values()].map((one) => one.text).join('   ')
      this.stream.write(`\r\u001b[2K${all.slice(0, (this.stream.columns ?? 80) - 1)}`)
      this.openLine = true
    } else if (this.now() - shown >= LINE_SECONDS) {
      this.stream.write(`${text}\n`)
      this.running.set(cell, { text, shown: this.now() })
    }
  }

  private note(text: string): void {
    if (this.openLine) this.stream.write('\r\u001b[2K')
    this.openLine = false
    this.stream.write(`${text}\n`)
  }
}
