import { basename } from 'node:path'
import type { Feedback, Policy } from './env.js'
import { type NativePolicy, loadNativePolicy } from '../native/policy.js'

/** A policy file of any kind at play; what it remembers of its episodes lives in the addon. */
class FilePolicy implements Policy {
  constructor(
    readonly name: string,
    private readonly native: NativePolicy,
  ) {}

  get obsDim(): number {
    return this.native.obsDim
  }

  get actDim(): number {
    return this.native.actDim
  }

  reset(rows: readonly number[]): void {
    this.native.reset([...rows])
  }

  act(observations: Float32Array, { rewards, costs }: Feedback): Float32Array {
    return this.native.act(observations, rewards, costs)
  }
}

/**
 * Loads a policy for inference; it needs the addon, but no libtorch computation.
 *
 * @param path a `policy.safetensors` file.
 * @param settings values for what the policy is conditioned on, a target or a limit; default those of the file.
 * @throws DrcorlError `Io`, `Data` or `Shape` (exit status 2) for a file that is missing, foreign or damaged, and for a
 *   setting the policy does not have.
 */
export async function loadPolicy(path: string, settings: Record<string, number> = {}): Promise<Policy> {
  return new FilePolicy(basename(path), await loadNativePolicy(path, settings))
}
