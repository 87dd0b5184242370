import { LiveLine } from '../base/live-line.js'
import { formatSeconds } from '../train/progress.js'
import type { Stream } from './command.js'

const BAR_WIDTH = 20
/** The rate is that of about the last so many seconds: a resumed download or a pause must not spoil it. */
const WINDOW_SECONDS = 10

/** Progress of one operation: share, rate and time left. */
export class Meter {
  private readonly line: LiveLine
  private readonly samples: { at: number; done: number }[] = []

  /**
   * @param label names the operation.
   * @param amount writes a number of units, e.g. as megabytes.
   */
  constructor(
    stream: Stream,
    private readonly label: string,
    private readonly amount: (units: number) => string,
    private readonly now: () => number = () => performance.now() / 1000,
  ) {
    this.line = new LiveLine(stream)
  }

  /** @param total 0 or undefined while unknown. */
  update(done: number, total: number | undefined): void {
    this.line.update(this.text(done, total || undefined))
  }

  note(text: string): void {
    this.line.note(text)
  }

  close(): void {
    this.line.close()
  }

  private text(done: number, total: number | undefined): string {
    const rate = this.rate(done)
    const parts = [
      this.label,
      total === undefined ? this.amount(done) : `${this.amount(done)} of ${this.amount(total)}`,
    ]
    if (total !== undefined) {
      const filled = Math.min(BAR_WIDTH, Math.round((done / total) * BAR_WIDTH))
      if (this.line.isTerminal) parts.push(`[${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}]`)
      parts.push(`${Math.floor((100 * done) / total)} %`)
    }
    if (rate > 0) parts.push(`${this.amount(rate)}/s`)
    if (rate > 0 && total !== undefined) parts.push(`ETA ${formatSeconds((total - done) / rate)}`)
    return parts.join('  ')
  }

  private rate(done: number): number {
    const at = this.now()
    // A restart begins anew.
    if (done < (this.samples.at(-1)?.done ?? 0)) this.samples.length = 0
    this.samples.push({ at, done })
    while (this.samples.length > 2 && at - this.samples[0]!.at > WINDOW_SECONDS) this.samples.shift()
    const first = this.samples[0]!
    return at > first.at ? (done - first.done) / (at - first.at) : 0
  }
}

/** Decimal units, as download pages and disks count. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return `${Math.round(bytes)} B`
  if (bytes < 1e6) return `${(bytes / 1e3).toFixed(1)} kB`
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`
}

export const formatCount = (count: number): string => Math.round(count).toLocaleString('en-US')
