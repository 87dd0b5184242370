/** A policy from whatever file holds one, by the runtime it is for. */
import { stat } from 'node:fs/promises'
import { extname, join } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { loadPolicy } from '../policy/node.js'
import type { Policy, PolicyRuntime } from '../policy/policy.js'
import { TFJS_FILES } from './names.js'
import { type ExportedRuntime, openOnnx, openTfjs } from './play.js'

export type Runtime = PolicyRuntime | ExportedRuntime

/** Which runtimes play which files; the first is taken unless another is asked for or the first is not there. */
const FORMATS: Record<string, { runtimes: readonly Runtime[]; takesSettings: boolean }> = {
  '.safetensors': { runtimes: ['native', 'javascript'], takesSettings: true },
  '.onnx': { runtimes: ['onnxruntime-node'], takesSettings: false },
  '.json': { runtimes: ['tfjs-node', 'tfjs'], takesSettings: false },
}

export const RUNTIMES: readonly Runtime[] = Object.values(FORMATS).flatMap(({ runtimes }) => runtimes)

export interface OpenPolicyOptions {
  /** What a conditioned policy is asked for; only for safetensors, the other formats have it built in. */
  settings?: Record<string, number>
  /** Default the best that is installed. */
  runtime?: Runtime | undefined
}

/** The file of a policy: `model.json` where a folder holds one. */
export async function policyFile(path: string): Promise<string> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  return isFolder ? join(path, TFJS_FILES.model) : path
}

/**
 * Opens a policy file: `.safetensors`, `.onnx`, or the `model.json` of a layers model.
 *
 * @throws DrcorlError `Usage` for another file, a setting that is built in or a runtime that does not play it;
 *   `Runtime` where the package that plays it is missing; else as `loadPolicy`.
 */
export async function openPolicy(path: string, { settings = {}, runtime }: OpenPolicyOptions = {}): Promise<Policy> {
  const format = FORMATS[extname(path)]
  if (format === undefined) {
    const known = `${Object.keys(FORMATS).slice(0, -1).join(', ')} or ${TFJS_FILES.model}`
    throw new DrcorlError('Usage', `${path} is no policy file: expected ${known}`)
  }
  if (runtime !== undefined && !format.runtimes.includes(runtime)) {
    throw new DrcorlError('Usage', `${runtime} does not play ${path}; it is for ${format.runtimes.join(' or ')}`)
  }
  const [setting] = Object.keys(settings)
  if (setting !== undefined && !format.takesSettings) {
    throw new DrcorlError('Usage', `${path}: ${setting} was fixed when the policy was exported`, {
      hint: `export it again with: npx drcorl export RUN --set ${setting}=${settings[setting]}`,
    })
  }
  if (extname(path) === '.onnx') return openOnnx(path)
  if (extname(path) === '.json') return openTfjs(path, runtime as 'tfjs' | 'tfjs-node' | undefined)
  return loadPolicy(path, settings, { runtime: (runtime ?? 'auto') as PolicyRuntime | 'auto' })
}
