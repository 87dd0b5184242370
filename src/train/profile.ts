/** Where the time of a run goes: its steps by the core, what is none of them timed here. */
import { join } from 'node:path'
import { writeJson } from '../base/files.js'
import type { ProfilePart, RunProfile } from '../config/results.js'
import type { Trainer } from '../native/trainer.js'
import { RUN_FILES, type RunRecord } from './run-folder.js'

export const PROFILE_FORMAT: RunProfile['format'] = 'drcorl-profile/1'

/** Of one run, from the call that trains on. */
export class Stopwatch {
  private readonly started = performance.now()
  private readonly onCore = process.cpuUsage()
  private readonly parts = new Map<string, ProfilePart>()

  /** What `work` does, as a part of that name. Parts do not lie in each other. */
  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    const from = performance.now()
    try {
      return await work()
    } finally {
      const part = this.parts.get(name) ?? { name, calls: 0, seconds: 0, products: [], parts: [] }
      part.calls += 1
      part.seconds += (performance.now() - from) / 1000
      this.parts.set(name, part)
    }
  }

  /**
   * Writes `profile.json`; the core measures the peak of the machine now.
   *
   * @param first_step where the run began, or went on from.
   */
  async write(folder: string, { algorithm }: RunRecord, trainer: Trainer, first_step: number): Promise<RunProfile> {
    const wall_seconds = (performance.now() - this.started) / 1000
    const { user, system } = process.cpuUsage(this.onCore)
    const { step: last_step } = await trainer.status()
    const profile: RunProfile = {
      format: PROFILE_FORMAT,
      created: new Date().toISOString(),
      algorithm,
      first_step,
      last_step,
      wall_seconds,
      cpu_seconds: (user + system) / 1e6,
      parts: [...this.parts.values()],
      ...(await trainer.profile()),
    }
    await writeJson(join(folder, RUN_FILES.profile), profile)
    return profile
  }
}

/** `work`, timed where there is a stopwatch. */
export const timed = <T>(watch: Stopwatch | null, name: string, work: () => Promise<T>): Promise<T> =>
  watch === null ? work() : watch.time(name, work)
