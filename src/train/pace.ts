/** Wanted length of one native call: short enough that cancelling and progress feel immediate. */
const TARGET_SECONDS = 0.25
/** A first measurement may be far off (caches, lazy setup), so the number of steps grows by at most this factor. */
const LARGEST_GROWTH = 4
/** Weight of the newest measurement in the running step rate. */
const FRESH = 0.3

/** Chooses the steps of each native call from the speed of the calls before it. Results never depend on it. */
export class Pace {
  private phase = -1
  private lastSteps = 0
  private calls = 0
  private secondsPerStep = 0
  private totalSteps = 0
  private totalSeconds = 0

  /** Steps for the next call. The first call of a phase is one step: phases differ in speed by a hundred times. */
  next(phase: number): number {
    if (phase !== this.phase) {
      this.phase = phase
      this.lastSteps = 0
      this.calls = 0
      this.secondsPerStep = 0
    }
    if (this.lastSteps === 0) return 1
    const wanted = this.secondsPerStep > 0 ? TARGET_SECONDS / this.secondsPerStep : Number.POSITIVE_INFINITY
    return Math.max(1, Math.floor(Math.min(wanted, this.lastSteps * LARGEST_GROWTH)))
  }

  measured(steps: number, seconds: number): void {
    if (steps <= 0) return
    const fresh = seconds / steps
    // A single step says little about the rate; the call after it replaces it.
    this.secondsPerStep = this.lastSteps <= 1 ? fresh : FRESH * fresh + (1 - FRESH) * this.secondsPerStep
    this.lastSteps = steps
    this.calls += 1
    this.totalSteps += steps
    this.totalSeconds += seconds
  }

  /** Steps per second in the current phase, 0 before the first measurement. */
  get rate(): number {
    return this.secondsPerStep > 0 ? 1 / this.secondsPerStep : 0
  }

  /**
   * Seconds left: the steps of this phase at its own rate, those of later phases at the mean rate so far.
   * Null before the second measurement of a phase: its very first step is often ten times slower than the rest.
   */
  eta(phaseStepsLeft: number, laterSteps: number): number | null {
    if (this.calls < 2) return null
    return phaseStepsLeft * this.secondsPerStep + (laterSteps * this.totalSeconds) / this.totalSteps
  }
}
