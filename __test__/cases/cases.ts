/** Inputs of kinds that people reported, made by the Python files of a folder beside the repository. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Declare, serialIf } from '../test-if.js'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Where the generators are. */
export const CASES = process.env['DRCORL_CASES_DIR'] ?? join(ROOT, '../shared/cases')

/** What runs them: an interpreter that has their packages, or finds those of `node scripts/cases.mjs`. */
export const PYTHON = process.env['DRCORL_CASES_PYTHON'] ?? 'python3'
const PACKAGES = process.env['DRCORL_CASES_PYTHON'] === undefined ? [join(ROOT, 'target/cases')] : []

process.env['PYTHONPATH'] = [CASES, ...PACKAGES].join(delimiter)
// What imports a generator must not write beside it.
process.env['PYTHONDONTWRITEBYTECODE'] = '1'

/** Declares tests of what one generator makes; skipped, and counted so, where it or a package it needs is absent. */
export function caseIf(file: string, ...modules: string[]): Declare {
  return serialIf(existsSync(join(CASES, file)) && has(modules), reason(file, modules))
}

function reason(file: string, modules: readonly string[]): string {
  if (!existsSync(join(CASES, file))) return `${join(CASES, file)} is absent, DRCORL_CASES_DIR names another folder`
  return `${PYTHON} has no ${modules.join(', ')}: node scripts/cases.mjs installs them, or name another by DRCORL_CASES_PYTHON`
}

function has(modules: readonly string[]): boolean {
  const imports = modules.length === 0 ? 'pass' : `import ${modules.join(', ')}`
  return spawnSync(PYTHON, ['-c', imports]).status === 0
}

/** Runs a generator into a new folder, and gives the folder. */
export async function make(file: string, ...args: string[]): Promise<string> {
  const folder = join(await mkdtemp(join(tmpdir(), 'drcorl-cases-')), 'made')
  generate(file, ...(args.length > 0 ? args : [folder]))
  return folder
}

/** Runs a generator, and gives what it printed. */
export function generate(file: string, ...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(PYTHON, [join(CASES, file), ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 24,
  })
  if (status !== 0) throw new Error(`${file}: ${stderr}${stdout}`)
  return stdout
}
