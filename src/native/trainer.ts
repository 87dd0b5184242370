/** Training runs in the core: the only calls that need libtorch. */
import { setImmediate } from 'node:timers/promises'
import type { NativeColumns, NativeDataset, NativeTrainer, NativeTrainingData } from '../../index.d.ts'
import type { Certificate, PlayedEpisode, PolicyRecord, RunProfile, TrainerStatus } from '../config/results.js'
import { DrcorlError } from '../base/errors.js'
import { costNames } from '../config/limits.js'
import { loadCore } from './addons.js'
import { type ChosenDevice, chooseDevice } from './device.js'
import { guard } from './guard.js'

/** Names the algorithm and its two groups of parameters, all resolved. */
export interface TrainerConfig {
  algorithm: string
  run: Record<string, unknown>
  config: Record<string, unknown>
}

/** What the core says of where its time went. */
export type TrainerProfile = Pick<RunProfile, 'threads' | 'matmul_precision' | 'phases' | 'kernels' | 'peak'>

/** A native trainer with JSON parsed and errors typed. One call at a time; `cancel` alone may come at any moment. */
export class Trainer {
  private constructor(
    private readonly native: NativeTrainer,
    /** What it computes on, and why. */
    readonly device: ChosenDevice,
  ) {}

  /**
   * @param last nobody needs the dataset afterwards: its memory is freed before the core makes its own of it.
   * @param pretraining path of what a run of other parameters saved when its status said `pretrained`: this one goes on
   *   from there as if it were its own. `Config` names a parameter that shaped it and differs, with both values.
   */
  static async create(
    dataset: NativeDataset,
    { algorithm, run, config }: TrainerConfig,
    last = false,
    pretraining: string | null = null,
  ): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadCore()
    const device = await chooseDevice(String(run['device'] ?? 'auto'))
    const json = JSON.stringify({ algorithm, run, config })
    const data = await trainingData(dataset, last, costNames(run))
    const made =
      pretraining === null
        ? await handOver(data, () => Native.create(data, json))
        : await handOver(data, () => Native.reuse(data, json, pretraining), { exitStatus: 2 })
    return new Trainer(made, device)
  }

  /**
   * Goes on from a checkpoint: parameters, optimiser moments, random streams and step are those of the saved trainer.
   *
   * @param last as of `create`.
   */
  static async resume(
    dataset: NativeDataset,
    checkpoint: string,
    { run }: TrainerConfig,
    last = false,
  ): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadCore()
    const device = await chooseDevice(String(run['device'] ?? 'auto'))
    const data = await trainingData(dataset, last, costNames(run))
    return new Trainer(await handOver(data, () => Native.resume(data, checkpoint), { exitStatus: 2 }), device)
  }

  /** Runs up to `steps` steps, never past the end of a phase; resolves early with `cancelled` after `cancel()`. */
  run(steps: number): Promise<TrainerStatus> {
    return guard(async () => JSON.parse(await this.native.run(steps)) as TrainerStatus)
  }

  /**
   * Takes the models behind the certificate from a folder when the run comes to them, or leaves its own there. They
   * follow from the data, the seed and their own parameters: no bit of the run changes.
   */
  shareAudit(folder: string, datasetSha256: string): Promise<void> {
    return guard(() => this.native.shareAudit(folder, datasetSha256))
  }

  /** Records from now on where the time goes; no bit of the run changes. `Config` for a run that is not on the CPU. */
  startProfile(): Promise<void> {
    return guard(() => this.native.startProfile())
  }

  /** Where the time went since `startProfile`; measures the peak of this machine, half a second. */
  profile(): Promise<TrainerProfile> {
    return guard(async () => {
      const text = await this.native.profile()
      if (text === null) throw new DrcorlError('Internal', 'no profile was started')
      return JSON.parse(text) as TrainerProfile
    })
  }

  cancel(): void {
    this.native.cancel()
  }

  status(): Promise<TrainerStatus> {
    return guard(() => JSON.parse(this.native.status()) as TrainerStatus)
  }

  /** Writes a checkpoint atomically. */
  save(path: string): Promise<void> {
    return guard(() => this.native.save(path))
  }

  /**
   * Writes the policy files, each with what it comes from, and enters their hashes into the certificate.
   *
   * @param origin sha256 of the dataset, and the day the run began.
   * @returns what was written, the one to use first.
   */
  writePolicies(folder: string, origin: { dataset_sha256: string; date: string }): Promise<PolicyRecord[]> {
    const { dataset_sha256, date } = origin
    return guard(
      async () => JSON.parse(await this.native.writePolicies(folder, dataset_sha256, date)) as PolicyRecord[],
    )
  }

  /** Writes the policy that meets the environment at the visit that is due. */
  writeVisitor(path: string): Promise<void> {
    return guard(() => this.native.writeVisitor(path))
  }

  /** Hands in the visit that is due; `costs` are the names of those that have a limit. */
  async visited(
    episodes: readonly PlayedEpisode[],
    collected?: NativeDataset,
    costs?: readonly string[],
  ): Promise<void> {
    const json = JSON.stringify(episodes)
    if (collected === undefined) return guard(() => this.native.visited(json))
    const data = await trainingData(collected, true, costs)
    return handOver(data, () => this.native.visited(json, data))
  }

  certificate(): Promise<Certificate | null> {
    return guard(() => {
      const text = this.native.certificate()
      return text === null ? null : (JSON.parse(text) as Certificate)
    })
  }

  dispose(): void {
    this.native.dispose()
  }
}

const COLUMNS = [
  'observations',
  'next_observations',
  'actions',
  'rewards',
  'costs',
  'terminals',
  'timeouts',
] as const satisfies (keyof NativeColumns)[]

/** Values that cross at a time, 4 MB. */
const BLOCK = 1 << 20

/**
 * A dataset of the runtime addon as the core has it. The two addons share no memory, and JavaScript holds a block only:
 * what it held would be there until the garbage collector comes.
 *
 * @param limits names of the costs that are bounded.
 */
export async function trainingData(
  dataset: NativeDataset,
  last: boolean,
  limits: readonly string[] = [],
): Promise<NativeTrainingData> {
  const { NativeTrainingData: Native } = await loadCore()
  return guard(
    async () => {
      const { rows, obs_dim, act_dim, source, costs } = dataset.shape()
      // What is not bounded is not learnt from.
      const bounded = costs.filter((name, index) => index === 0 || limits.includes(name))
      const data = Native.sized(obs_dim, act_dim, rows, bounded, source)
      const block = new Float32Array(BLOCK)
      for (const column of [...COLUMNS, ...bounded.slice(1).map((name) => `further/${name}`)]) {
        let count = 0
        for (let from = 0; (count = dataset.copyValues(column, from, block)) > 0; from += count) {
          data.push(column, block.subarray(0, count))
        }
        await setImmediate()
      }
      if (last) dataset.release()
      data.finish()
      return data
    },
    { exitStatus: 2 },
  )
}

/** Calls into the core with data that only what it makes needs from then on. */
async function handOver<T>(data: NativeTrainingData, call: () => Promise<T>, options = {}): Promise<T> {
  const called = guard(call, options)
  data.release()
  return called
}
