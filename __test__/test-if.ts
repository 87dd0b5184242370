import test, { type ExecutionContext } from 'ava'

/** Declares a test, as ava's `test` does. */
export type Declare = (title: string, body: (t: ExecutionContext) => void | Promise<void>) => void

/**
 * `test` where `condition` holds. Elsewhere its tests are skipped, aloud and counted: one that cannot run must not
 * count as passed.
 *
 * @param reason why they cannot run, and what cures it.
 */
export const testIf = (condition: boolean, reason: string): Declare => declaring(condition ? test : undefined, reason)

/** The same for tests that run one after the other. */
export const serialIf = (condition: boolean, reason: string): Declare =>
  declaring(condition ? test.serial : undefined, reason)

/** Declares a test that is skipped. */
export function skipped(title: string, reason: string): void {
  test.skip(`${title} (skipped: ${reason})`, () => undefined)
}

function declaring(declare: Declare | undefined, reason: string): Declare {
  return (title, body) => (declare === undefined ? skipped(title, reason) : declare(title, body))
}
