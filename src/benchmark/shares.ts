/** Cells that share one pretraining: one of them makes it, the others wait for it. */
import { join } from 'node:path'
import { exists } from '../base/files.js'
import { RUN_FILES } from '../train/run-folder.js'
import type { Cell } from './plan.js'

/** A cell that may start, and the folder whose pretraining it takes over, if it does. */
export interface Start {
  cell: Cell
  reuse: string | null
}

const isMade = ({ folder }: Cell): Promise<boolean> => exists(join(folder, RUN_FILES.pretraining))

export class Shares {
  private pending: Cell[] = []
  /** Cells that are making one, by what they make. */
  private readonly makers = new Map<string, Cell>()
  /** Folders of those that are made. */
  private readonly made = new Map<string, string>()
  private waiting: (() => void)[] = []

  private constructor(private readonly signal: AbortSignal) {
    signal.addEventListener('abort', () => this.wake(), { once: true })
  }

  /** Cells in their order, but for those that have a pretraining from before: the others need not make another. */
  static async of(cells: readonly Cell[], signal: AbortSignal): Promise<Shares> {
    const shares = new Shares(signal)
    const first = await Promise.all(cells.map(async (cell) => cell.pretraining !== null && (await isMade(cell))))
    shares.pending = [...cells.filter((_, index) => first[index]), ...cells.filter((_, index) => !first[index])]
    return shares
  }

  /** The next cell, once there is one that has to wait for no other; undefined where none is left, or at a signal. */
  async next(): Promise<Start | undefined> {
    while (this.pending.length > 0 && !this.signal.aborted) {
      const index = this.pending.findIndex((cell) => !this.makers.has(cell.pretraining ?? ''))
      if (index >= 0) return this.start(this.pending.splice(index, 1)[0]!)
      await new Promise<void>((resolve) => this.waiting.push(resolve))
    }
    return undefined
  }

  private start(cell: Cell): Start {
    const { pretraining: key } = cell
    if (key === null) return { cell, reuse: null }
    const reuse = this.made.get(key) ?? null
    if (reuse === null) this.makers.set(key, cell)
    return { cell, reuse }
  }

  /** The cell has written what it shares. */
  pretrained(cell: Cell): void {
    if (cell.pretraining !== null) this.made.set(cell.pretraining, cell.folder)
    this.release(cell)
  }

  /** The cell has ended. Where it has made nothing, the next one makes it. */
  async ended(cell: Cell, done: boolean): Promise<void> {
    if (done && cell.pretraining !== null && !this.made.has(cell.pretraining) && (await isMade(cell))) {
      this.made.set(cell.pretraining, cell.folder)
    }
    this.release(cell)
  }

  private release(cell: Cell): void {
    const { pretraining: key } = cell
    if (key === null || this.makers.get(key) !== cell) return
    this.makers.delete(key)
    this.wake()
  }

  private wake(): void {
    for (const go of this.waiting.splice(0)) go()
  }
}
