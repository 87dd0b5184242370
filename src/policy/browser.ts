/**
 * `drcorl/policy` outside Node: browsers, workers, bundles. It imports nothing but JavaScript of its own, about 10 kB,
 * and plays policies of kind `mlp` and mixtures of them.
 */
import { DrcorlError, messageOf } from '../base/errors.js'
import { playBytes } from './mixture.js'
import type { LoadedPolicy, LoadPolicyOptions } from './policy.js'
import { MOST_BYTES } from './safetensors.js'

export { DrcorlError, type ErrorCode } from '../base/errors.js'
export type { Feedback, LoadedPolicy, LoadPolicyOptions, Policy, PolicyRuntime } from './policy.js'

/**
 * Loads a policy for inference.
 *
 * @param source address of a `policy.safetensors` of at most 2^28 bytes, which is fetched, or its bytes.
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
  return playBytes(name, bytes, address, settings)
}

async function fetchBytes(address: string | URL): Promise<Uint8Array> {
  try {
    const response = await fetch(address)
    if (!response.ok) throw new Error(`status ${response.status}`)
    return await readBody(response)
  } catch (error) {
    throw new DrcorlError('Io', `${address} cannot be fetched: ${messageOf(error)}`, { cause: error, exitStatus: 2 })
  }
}

/** The body as far as a policy can go: a server may never end it. */
async function readBody(response: Response): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  const reader = response.body?.getReader()
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true }
    if (done || value === undefined) break
    length += value.length
    if (length > MOST_BYTES) {
      await reader?.cancel()
      throw new Error(`more than ${MOST_BYTES} bytes, the most of a policy`)
    }
    chunks.push(value)
  }
  const bytes = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.length
  }
  return bytes
}
