import { type ProgramOptions, runProgram } from '../base/subprocess.js'

/** Wheels only: a compiler that runs for minutes, or is not there, is no installation. */
const OPTIONS = ['--no-deps', '--only-binary=:all:', '--no-input', '--disable-pip-version-check', '--progress-bar=off']

/**
 * Runs pip of a Python for the packages named and no others.
 *
 * @param command `install` or `download`.
 * @throws DrcorlError as `runProgram`.
 */
export function runPip(
  what: string,
  python: string,
  command: 'install' | 'download',
  args: readonly string[],
  options: ProgramOptions,
): Promise<void> {
  return runProgram(what, python, ['-m', 'pip', command, ...OPTIONS, ...args], options)
}
