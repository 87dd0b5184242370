import { basename } from 'node:path'
import type { Policy } from '../envs/env.js'
import { type NativePolicy, loadNativePolicy } from '../native.js'

/** An MLP actor from a policy file: deterministic and without memory, so `reset` has nothing to forget. */
class ActorPolicy implements Policy {
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

  reset(): void {
    // Nothing is remembered between steps.
  }

  act(observations: Float32Array): Float32Array {
    return this.native.act(observations)
  }
}

/**
 * Loads a policy for inference; it needs the addon, but no libtorch computation.
 *
 * @param path a `policy.safetensors` file.
 * @throws DrcorlError `Io`, `Data` or `Shape` (exit status 2) for a file that is missing, foreign or damaged.
 */
export async function loadPolicy(path: string): Promise<Policy> {
  return new ActorPolicy(basename(path), await loadNativePolicy(path))
}
