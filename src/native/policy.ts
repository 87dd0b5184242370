import type { NativePolicy } from '../../index.d.ts'
import { loadRuntime } from './addons.js'
import { guard } from './guard.js'

export type { NativePolicy }

/** Reads `policy.safetensors` for inference without torch, and sets what it is conditioned on. */
export async function loadNativePolicy(path: string, settings: Record<string, number> = {}): Promise<NativePolicy> {
  const { NativePolicy: Native } = loadRuntime()
  return guard(
    () => {
      const policy = Native.load(path)
      for (const [name, value] of Object.entries(settings)) policy.set(name, value)
      return policy
    },
    { exitStatus: 2 },
  )
}
