/**
 * Environment steps taken in this process, counted where they are taken: in `step` of every environment. The claim that
 * training made none is the difference of two readings, not a promise.
 */
let taken = 0

/** @param steps rows stepped, N for one step of N environments. */
export function countSteps(steps: number): void {
  taken += steps
}

/** Environment steps taken so far in this process. */
export const environmentSteps = (): number => taken
