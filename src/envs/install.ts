/** `drcorl envs install`: an isolated Python environment with pinned packages, verified by stepping what is in it. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeFolder } from '../base/files.js'
import { lock } from '../native/lock.js'
import { envsFolder, hasSuite, readInstallation, venvPython, writeInstallation } from './installed.js'
import { findPython } from './interpreter.js'
import { openPythonEnv } from './python.js'
import { SUITES, SUITE_NAMES, type SuiteName } from './recipe.js'
import { installPackages, makeVenv } from './venv.js'

export interface InstallOptions {
  /** Default all. */
  suites?: readonly SuiteName[] | undefined
  /** Default `$DRCORL_ENVS`, else `drcorl/envs` in the user's cache folder. */
  dir?: string | undefined
  /** Interpreter to build on: see `findPython`. */
  python?: string | undefined
  /** Told what is being done; `detail` lines may replace each other. */
  onProgress?: ((event: { text: string; detail: boolean }) => void) | undefined
  signal?: AbortSignal | undefined
}

export interface InstallResult {
  folder: string
  /** Interpreter of the environment. */
  python: string
  python_version: string
  /** Suites that are now installed and were stepped, with what had to be done. */
  suites: { suite: SuiteName; action: 'installed' | 'up to date' }[]
  seconds: number
}

const PROBE_STEPS = 20

/**
 * Installs the suites that are missing or of other versions, and steps every one of them. Run again, it only steps.
 * An installation that was interrupted or is damaged is made anew.
 *
 * @throws DrcorlError `Environment` with the last lines of pip or Python, `Usage`, `Io`, `Busy`, `Cancelled`.
 */
export async function installEnvironments(options: InstallOptions = {}): Promise<InstallResult> {
  const started = performance.now()
  const folder = envsFolder(options.dir)
  await makeFolder(folder)
  const release = await lock(join(folder, 'install.lock'), `installing environments in ${folder}`)
  try {
    const install = new Install(folder, options)
    const suites = await install.run()
    const python_version = (await readInstallation(folder))?.python ?? ''
    return { folder, python: venvPython(folder), python_version, suites, seconds: (performance.now() - started) / 1000 }
  } finally {
    release()
  }
}

class Install {
  private readonly python: string

  constructor(
    private readonly folder: string,
    private readonly options: InstallOptions,
  ) {
    this.python = venvPython(folder)
  }

  async run(): Promise<InstallResult['suites']> {
    const wanted = this.options.suites ?? SUITE_NAMES
    let found = await readInstallation(this.folder)
    if (found === undefined || (await this.isOtherPython(found.python))) {
      const interpreter = await findPython(this.options.python)
      await rm(join(this.folder, 'drcorl-envs.json'), { force: true })
      await makeVenv(this.folder, interpreter, this.options)
      found = { format: 'drcorl-envs/1', python: interpreter.version, suites: {} }
    }
    const results: InstallResult['suites'] = []
    for (const suite of wanted) {
      const present = hasSuite(found, suite) && (await this.works(suite))
      if (!present) {
        await installPackages(SUITES[suite].label, this.folder, SUITES[suite].packages, this.options)
        await this.verify(suite)
      }
      found.suites[suite] = { packages: SUITES[suite].packages, verified: new Date().toISOString() }
      await writeInstallation(this.folder, found)
      results.push({ suite, action: present ? 'up to date' : 'installed' })
    }
    return results
  }

  /** True where the user asked for a Python of another version than the one there. */
  private async isOtherPython(version: string): Promise<boolean> {
    if (this.options.python === undefined) return false
    return (await findPython(this.options.python)).version !== version
  }

  private async works(suite: SuiteName): Promise<boolean> {
    return this.verify(suite).then(
      () => true,
      (error: unknown) => {
        if (this.options.signal?.aborted) throw error
        this.say(`${SUITES[suite].label} is damaged and is installed again`)
        return false
      },
    )
  }

  /** Steps the probes of a suite. */
  private async verify(suite: SuiteName): Promise<void> {
    for (const id of SUITES[suite].probes) {
      const source = { name: id, suite, id, python: this.python }
      const env = await openPythonEnv(source, { num_envs: 1, workers: 1, signal: this.options.signal })
      try {
        const start = performance.now()
        await env.reset([0])
        const actions = new Float32Array(env.act_dim).fill(0.5)
        for (let step = 0; step < PROBE_STEPS; step += 1) await env.step(actions)
        const rate = (1000 * PROBE_STEPS) / (performance.now() - start)
        this.say(`${SUITES[suite].label}: ${id} works, ${env.obs_dim} observations, ${rate.toFixed(0)} steps/s`)
      } finally {
        await env.close()
      }
    }
  }

  private say(text: string): void {
    this.options.onProgress?.({ text, detail: false })
  }
}
