/** What the machine offers, as the addons see it. */
import { loadCore, loadRuntime } from './addons.js'
import { guard } from './guard.js'

/** `environment()` of the core. */
export interface CoreEnvironment {
  /** Version of the addon. */
  core: string
  /** Version of libtorch the addon is built for. */
  libtorch: string
  /** `cpu`, and `cuda:N` for each device. */
  devices: string[]
  intra_op_threads: number
  processors: number
  /**
   * What makes the matrix products of networks, those of the largest gain first;
   * empty if `DRCORL_MATMUL` names what is not there.
   */
  matmul: string[]
}

/** Needs libtorch: see `loadCore` for the errors. */
export async function coreEnvironment(): Promise<CoreEnvironment> {
  const addon = await loadCore()
  return guard(() => JSON.parse(addon.environment()) as CoreEnvironment)
}

/** Instruction sets by which kernels are chosen; needs the runtime addon. */
export const cpuFeatures = (): string[] => loadRuntime().cpuFeatures()
