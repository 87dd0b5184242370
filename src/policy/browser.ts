/**
 * `drcorl/policy` outside Node: browsers, workers, bundles. It imports nothing but JavaScript of its own, about 10 kB,
 * and plays policies of kind `mlp`.
 */
import { DrcorlError, messageOf } from '../base/errors.js'
import { readMlp } from './mlp.js'
import { MlpPlayer } from './player.js'
import type { LoadedPolicy, LoadPolicyOptions } from './policy.js'

export { DrcorlError, type ErrorCode } from '../base/errors.js'
export type { Feedback, LoadedPolicy, LoadPolicyOptions, Policy, PolicyRuntime } from './policy.js'

/**
 * Loads a policy for inference.
 *
 * @param source address of a `policy.safetensors`, which is fetched, or its bytes.
 * @param settings values for what the policy is conditioned on, a target or a limit; default those of the file.
 * @throws DrcorlError `Io`, `Data` or `Shape` (exit status 2) for a file that is missing, foreign or damaged, and for a
 *   setting the policy does not have; `Addon` for a kind that only the native addon plays, and where that is asked for.
 */
export async function loadPolicy(
  source: string | URL | Uint8Array | ArrayBuffer,
  settings: Record<string, number> = {},
  { runtime = 'auto' }: LoadPolicyOptions = {},
): Promise<LoadedPolicy> {
  if (runtime === 'native') throw new DrcorlError('Addon', 'the native addon runs in Node only')
  const bytes = typeof source === 'string' || source instanceof URL ? await fetchBytes(source) : new Uint8Array(source)
  const address = typeof source === 'string' || source instanceof URL ? String(source) : 'policy'
  const name = address.replace(/[?#].*$/, '').replace(/^.*\//, '')
  return new MlpPlayer(name, readMlp(bytes, address, settings))
}

async function fetchBytes(address: string | URL): Promise<Uint8Array> {
  try {
    const response = await fetch(address)
    if (!response.ok) throw new Error(`status ${response.status}`)
    return new Uint8Array(await response.arrayBuffer())
  } catch (error) {
    throw new DrcorlError('Io', `${address} cannot be fetched: ${messageOf(error)}`, { cause: error, exitStatus: 2 })
  }
}
