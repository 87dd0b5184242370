/**
 * `drcorl/policy` in Node: policy files through the native addon where there is one, in JavaScript where there is none.
 */
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { DrcorlError, toDrcorlError } from '../base/errors.js'
import { exists, readBytes } from '../base/files.js'
import { type NativePolicy, loadNativePolicy } from '../native/policy.js'
import { playBytes } from './mixture.js'
import { requireApart } from './player.js'
import type { Feedback, LoadedPolicy, LoadPolicyOptions, PolicyRuntime } from './policy.js'
import { POLICY_FILE, checkPolicyFile } from './provenance.js'
import { MOST_BYTES } from './safetensors.js'

export { DrcorlError, type ErrorCode } from '../base/errors.js'
export type { Feedback, LoadedPolicy, LoadPolicyOptions, Policy, PolicyRuntime } from './policy.js'

/** A policy file of any kind at play; what it remembers of its episodes lives in the addon. */
class NativePlayer implements LoadedPolicy {
  readonly runtime = 'native'
  readonly obs_dim: number
  readonly act_dim: number
  readonly settings: Readonly<Record<string, number>>
  readonly metadata: Readonly<Record<string, string>>

  constructor(
    readonly name: string,
    private readonly native: NativePolicy,
  ) {
    this.obs_dim = native.obs_dim
    this.act_dim = native.act_dim
    this.settings = JSON.parse(native.settings) as Record<string, number>
    this.metadata = JSON.parse(native.metadata) as Record<string, string>
  }

  reset(rows: readonly number[], seeds?: readonly number[]): void {
    this.native.reset([...rows], seeds && [...seeds])
  }

  act(observations: Float32Array | readonly number[], feedback?: Feedback): Float32Array {
    const given = observations instanceof Float32Array ? observations : Float32Array.from(observations)
    try {
      return this.native.act(given, feedback?.rewards, feedback?.costs)
    } catch (error) {
      throw toDrcorlError(error)
    }
  }

  actInto(observations: Float32Array, actions: Float32Array, feedback?: Feedback): void {
    requireApart(actions, observations, 'observations')
    requireApart(actions, feedback?.rewards, 'rewards')
    requireApart(actions, feedback?.costs, 'costs')
    try {
      this.native.actInto(observations, actions, feedback?.rewards, feedback?.costs)
    } catch (error) {
      throw toDrcorlError(error)
    }
  }
}

/**
 * Loads a policy for inference; nothing of libtorch is needed. One that lies in the folder of a run must be the one
 * that the run's certificate and result name.
 *
 * @param source path or `file:` address of a `policy.safetensors`, a regular file of at most 2^28 bytes, or of the run
 *   folder that holds it; or its bytes, which JavaScript plays.
 * @param settings values for what the policy is conditioned on, a target or a limit; default those of the file.
 * @throws DrcorlError `Io`, `Data` or `Shape` (exit status 2) for a file that is missing, foreign, damaged or of
 *   another run, and for a setting the policy does not have; `Addon` where the policy or the caller needs the native
 *   addon and there is none.
 */
export async function loadPolicy(
  source: string | URL | Uint8Array | ArrayBuffer,
  settings: Record<string, number> = {},
  { runtime = 'auto' }: LoadPolicyOptions = {},
): Promise<LoadedPolicy> {
  if (typeof source !== 'string' && !(source instanceof URL)) {
    if (runtime !== 'native') return playBytes('policy', new Uint8Array(source), 'policy', settings)
    throw new DrcorlError('Usage', 'the native addon reads policies from files: give a path, or runtime "javascript"')
  }
  const given = source instanceof URL ? fileURLToPath(source) : source
  const inside = join(given, POLICY_FILE)
  const path = (await exists(inside)) ? inside : given
  const name = basename(path)
  // What the garbage collector has found useless is freed between two turns of the event loop only.
  await setImmediate()
  const policy = await open(path, name, settings, runtime)
  await checkPolicyFile(path)
  return policy
}

async function open(
  path: string,
  name: string,
  settings: Record<string, number>,
  runtime: 'auto' | PolicyRuntime,
): Promise<LoadedPolicy> {
  if (runtime !== 'javascript') {
    try {
      return new NativePlayer(name, await loadNativePolicy(path, settings))
    } catch (error) {
      if (runtime === 'native' || toDrcorlError(error).code !== 'Addon') throw error
    }
  }
  return playBytes(name, await readPolicy(path), path, settings)
}

/** The bytes of a file whose kind and size were looked at: a pipe or a device may never end. */
async function readPolicy(path: string): Promise<Uint8Array> {
  // A path that leads nowhere is refused by what reads it.
  const found = await stat(path).catch(() => undefined)
  if (found !== undefined && !found.isFile()) {
    throw new DrcorlError('Io', `${path}: cannot be read: it is no regular file; check the path`, { exitStatus: 2 })
  }
  if (found !== undefined && found.size > MOST_BYTES) {
    const limit = `${path}: has ${found.size} bytes, a policy at most ${MOST_BYTES}`
    throw new DrcorlError('Data', `${limit}; use a policy file written by drcorl`)
  }
  return readBytes(path)
}
