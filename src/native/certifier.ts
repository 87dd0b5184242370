/** Policies from files, judged in the core on given episodes. */
import type { NativeCertifier, NativeDataset } from '../../index.d.ts'
import type { Certificate, TrainerStatus } from '../config/results.js'
import { costNames } from '../config/limits.js'
import { loadCore } from './addons.js'
import { type ChosenDevice, chooseDevice } from './device.js'
import { guard } from './guard.js'
import { trainingData } from './trainer.js'

/** Parameters of the judgement, and the policies with what they are asked for instead of what their files say. */
export interface CertifierConfig {
  run: Record<string, unknown>
  policies: readonly { path: string; settings: Record<string, number> }[]
}

/** A native certifier with JSON parsed and errors typed. One call at a time; `cancel` alone may come at any moment. */
export class Certifier {
  private constructor(
    private readonly native: NativeCertifier,
    /** What it computes on, and why. */
    readonly device: ChosenDevice,
  ) {}

  /** @throws DrcorlError `Config`, `Io`, `Data` or `Shape`, exit status 2: all that is refused here is input. */
  static async create(dataset: NativeDataset, { run, policies }: CertifierConfig): Promise<Certifier> {
    const { NativeCertifier: Native } = await loadCore()
    const device = await chooseDevice(String(run['device'] ?? 'auto'))
    const data = await trainingData(dataset, false, costNames(run))
    const json = JSON.stringify({ run, policies })
    return new Certifier(await guard(() => Native.create(data, json), { exitStatus: 2 }), device)
  }

  /** Shares the models, in files of `folder`, with other judgements of the data that the hash names. */
  shareAudit(folder: string, datasetSha256: string): Promise<void> {
    return guard(() => this.native.shareAudit(folder, datasetSha256))
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

  /** One a policy, in their order, of those that have been judged. */
  certificates(): Promise<Certificate[]> {
    return guard(() => JSON.parse(this.native.certificates()) as Certificate[])
  }

  dispose(): void {
    this.native.dispose()
  }
}
