/** Where progress goes: stderr, or anything that can stand in for it. */
export interface ProgressStream {
  write(text: string): unknown
  isTTY?: boolean
  columns?: number
}

/** Between plain lines when the stream is no terminal. */
const LINE_SECONDS = 5

/** One line rewritten in place on a terminal, a line every few seconds elsewhere. */
export class LiveLine {
  private lastLine = Number.NEGATIVE_INFINITY
  private open = false

  constructor(
    private readonly stream: ProgressStream,
    private readonly now: () => number = () => performance.now() / 1000,
  ) {}

  /** True where there is room for what a terminal alone can show, a bar for instance. */
  get isTerminal(): boolean {
    return this.stream.isTTY === true
  }

  /** @param always shown also where the last plain line is too recent. */
  update(text: string, always = false): void {
    if (this.isTerminal) {
      const width = (this.stream.columns ?? 80) - 1
      this.stream.write(`\r\u001b[2K${text.slice(0, width)}`)
      this.open = true
    } else if (always || this.now() - this.lastLine >= LINE_SECONDS) {
      this.stream.write(`${text}\n`)
      this.lastLine = this.now()
    }
  }

  /** A line of its own, which the live one makes room for. */
  note(text: string): void {
    this.close()
    this.stream.write(`${text}\n`)
  }

  /** Ends a line left open, so that what is printed next starts on its own. */
  close(): void {
    if (this.open) this.stream.write('\n')
    this.open = false
  }
}
