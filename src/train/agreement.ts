import { isDeepStrictEqual } from 'node:util'
import { DrcorlError } from '../base/errors.js'

/** A parameter's name, the value asked for and the value a run folder holds. */
export type Compared = [name: string, asked: unknown, stored: unknown]

/**
 * Refuses to go on in the folder of a run that had other parameters.
 *
 * @throws DrcorlError `Usage` naming the first difference.
 */
export function requireAgreement(parameters: Compared[], folder: string, hint: string): void {
  for (const [name, asked, stored] of parameters) {
    if (isDeepStrictEqual(asked, stored)) continue
    throw new DrcorlError(
      'Usage',
      `${name} = ${JSON.stringify(asked)} differs from the run in ${folder}, which has ${JSON.stringify(stored)}`,
      { hint },
    )
  }
}
