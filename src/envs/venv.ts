/** Virtual environments of Python, with packages that are pinned one by one. */
import { rm } from 'node:fs/promises'
import { type ProgramOptions, runProgram } from '../base/subprocess.js'
import { runPip } from '../net/pip.js'
import { venvFolder, venvPython } from './installed.js'
import type { Interpreter } from './interpreter.js'

export interface VenvOptions {
  /** Told what is being done; `detail` lines may replace each other. */
  onProgress?: ((event: { text: string; detail: boolean }) => void) | undefined
  signal?: AbortSignal | undefined
}

/** Makes the virtual environment of a folder anew: whatever is there was not finished, or is to be replaced. */
export async function makeVenv(folder: string, { command, version }: Interpreter, options: VenvOptions): Promise<void> {
  options.onProgress?.({ text: `Python ${version} (${command}), environment in ${folder}`, detail: false })
  await rm(venvFolder(folder), { recursive: true, force: true })
  const hint = 'on Debian and Ubuntu the module is a package of its own: sudo apt install python3-venv'
  await runProgram('making a virtual environment', command, ['-m', 'venv', venvFolder(folder)], program(hint, options))
}

/** Installs these packages, and none that they ask for, into the environment of a folder. */
export async function installPackages(
  label: string,
  folder: string,
  packages: readonly string[],
  options: VenvOptions,
): Promise<void> {
  const say = (text: string, detail: boolean): void => options.onProgress?.({ text, detail })
  say(`${label}: installing ${packages.length} packages`, false)
  let collected = 0
  await runPip(`installing ${label}`, venvPython(folder), 'install', packages, {
    ...program('nothing else was changed; the command can be run again', options),
    onLine: (line) => {
      if (/^(Collecting|Requirement already)/.test(line)) collected += 1
      say(`${collected}/${packages.length}  ${line.trim()}`, true)
    },
  })
}

/** How every program of an installation is run. */
function program(hint: string, { signal }: VenvOptions): ProgramOptions {
  const env = { ...process.env }
  // They would lead pip to packages outside the environment.
  for (const name of ['PYTHONPATH', 'PYTHONHOME', 'PIP_USER', 'PIP_TARGET', 'PIP_PREFIX']) delete env[name]
  return { code: 'Environment', hint, env, signal }
}
