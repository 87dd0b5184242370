/** Training runs in the core: the only calls that need libtorch. */
import type { NativeDataset, NativeTrainer, NativeTrainingData } from '../../index.d.ts'
import type { Certificate, PlayedEpisode, TrainerStatus } from '../config/results.js'
import { loadCore } from './addons.js'
import { type ChosenDevice, chooseDevice } from './device.js'
import { guard } from './guard.js'

/** Names the algorithm and its two groups of parameters, all resolved. */
export interface TrainerConfig {
  algorithm: string
  run: Record<string, unknown>
  config: Record<string, unknown>
}

/** A native trainer with JSON parsed and errors typed. One call at a time; `cancel` alone may come at any moment. */
export class Trainer {
  private constructor(
    private readonly native: NativeTrainer,
    /** What it computes on, and why. */
    readonly device: ChosenDevice,
  ) {}

  static async create(dataset: NativeDataset, { algorithm, run, config }: TrainerConfig): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadCore()
    const device = await chooseDevice(String(run['device'] ?? 'auto'))
    const json = JSON.stringify({ algorithm, run, config })
    const data = await trainingData(dataset)
    return new Trainer(await guard(() => Native.create(data, json)), device)
  }

  /**
   * Goes on from a checkpoint: parameters, optimiser moments, random streams and step are those of the saved trainer.
   */
  static async resume(dataset: NativeDataset, checkpoint: string, { run }: TrainerConfig): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadCore()
    const device = await chooseDevice(String(run['device'] ?? 'auto'))
    const data = await trainingData(dataset)
    return new Trainer(await guard(() => Native.resume(data, checkpoint), { exitStatus: 2 }), device)
  }

  /** Runs up to `steps` steps, never past the end of a phase; resolves early with `cancelled` after `cancel()`. */
  run(steps: number): Promise<TrainerStatus> {
    return guard(async () => JSON.parse(await this.native.run(steps)) as TrainerStatus)
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

  /** @returns names of the policy files written, the one to use first. */
  writePolicies(folder: string): Promise<string[]> {
    return guard(() => this.native.writePolicies(folder))
  }

  /** Writes the policy that meets the environment at the visit that is due. */
  writeVisitor(path: string): Promise<void> {
    return guard(() => this.native.writeVisitor(path))
  }

  /** Hands in the visit that is due. */
  async visited(episodes: readonly PlayedEpisode[], collected?: NativeDataset): Promise<void> {
    const data = collected === undefined ? undefined : await trainingData(collected)
    return guard(() => this.native.visited(JSON.stringify(episodes), data))
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

/** Copies in the core, kept as long as their dataset: several trainers share one. */
const copies = new WeakMap<NativeDataset, NativeTrainingData>()

/** A dataset of the runtime addon as the core has it; the two addons share no memory. */
export async function trainingData(dataset: NativeDataset): Promise<NativeTrainingData> {
  const { NativeTrainingData: Native } = await loadCore()
  const known = copies.get(dataset)
  if (known !== undefined) return known
  const copy = await guard(() => Native.fromColumns(dataset.columns()), { exitStatus: 2 })
  copies.set(dataset, copy)
  return copy
}
