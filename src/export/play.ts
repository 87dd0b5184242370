/** Exported policies at play: ONNX through onnxruntime-node, layers models through TensorFlow.js. */
import { readFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import util from 'node:util'
import { DrcorlError, describeFsError, messageOf } from '../base/errors.js'
import { readBytes, readJson } from '../base/files.js'
import { rowsOf } from '../policy/player.js'
import type { Policy } from '../policy/policy.js'
import { importPeer, missingPeer } from './peers.js'

/** The part of onnxruntime-node that is used. */
interface OnnxRuntime {
  InferenceSession: { create(model: Uint8Array, options: object): Promise<OnnxSession> }
  Tensor: new (type: 'float32', data: Float32Array, shape: number[]) => OnnxTensor
}

interface OnnxTensor {
  data: unknown
}

interface OnnxSession {
  inputMetadata: readonly OnnxValue[]
  outputMetadata: readonly OnnxValue[]
  run(feeds: Record<string, OnnxTensor>): Promise<Record<string, OnnxTensor>>
}

interface OnnxValue {
  name: string
  type?: string
  shape?: readonly (number | string)[]
}

/** The part of TensorFlow.js that is used; tfjs and tfjs-node have it alike. */
interface Tfjs {
  getBackend(): string
  setBackend(name: string): Promise<boolean>
  loadLayersModel(handler: unknown): Promise<TfjsModel>
  io: { fromMemory(artifacts: object): unknown }
  tensor2d(values: Float32Array, shape: [number, number]): TfjsTensor
}

interface TfjsModel {
  inputs: readonly { shape: readonly (number | null)[] }[]
  outputs: readonly { shape: readonly (number | null)[] }[]
  predict(input: TfjsTensor): TfjsTensor
}

interface TfjsTensor {
  data(): Promise<ArrayLike<number>>
  dispose(): void
}

/** A runtime that plays exported policies. */
export type ExportedRuntime = 'onnxruntime-node' | 'tfjs-node' | 'tfjs'

/** By preference: tfjs-node computes with TensorFlow's C library, tfjs in JavaScript. */
const TFJS = {
  'tfjs-node': { package: '@tensorflow/tfjs-node', backend: 'tensorflow' },
  tfjs: { package: '@tensorflow/tfjs', backend: 'cpu' },
} as const

/** A policy without memory whose actions a runtime computes. */
class ExportedPolicy implements Policy {
  constructor(
    readonly name: string,
    readonly runtime: ExportedRuntime,
    readonly obs_dim: number,
    readonly act_dim: number,
    private readonly compute: (observations: Float32Array, rows: number) => Promise<Float32Array>,
  ) {}

  reset(): void {
    // Nothing is remembered.
  }

  async act(observations: Float32Array): Promise<Float32Array> {
    const rows = rowsOf(observations, this.obs_dim)
    return rows === 0 ? new Float32Array() : this.compute(observations, rows)
  }
}

/**
 * Opens `policy.onnx`.
 *
 * @throws DrcorlError `Runtime` without onnxruntime-node,
 *   `Io` or `Data` (exit status 2) for a file that is no such model.
 */
export async function openOnnx(path: string): Promise<Policy> {
  const bytes = await readBytes(path)
  const ort = await importPeer<OnnxRuntime>('onnxruntime-node')
  if (ort === null) throw missingPeer(`playing ${path}`, ['onnxruntime-node'])
  // A policy is a few small products: a pool of threads would only make each wait. 3: errors alone are printed.
  const options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 }
  const session = await ort.InferenceSession.create(bytes, options).catch((error: unknown) => {
    throw new DrcorlError('Data', `${path} is no ONNX model: ${messageOf(error).split('\n')[0]}`, { cause: error })
  })
  const [input, ...others] = session.inputMetadata
  const [output] = session.outputMetadata
  if (input?.type !== 'float32' || output?.type !== 'float32' || others.length > 0) {
    throw new DrcorlError('Data', `${path} is no policy: it must read one float32 tensor and give one`)
  }
  const [obs_dim, act_dim] = [sizeOf(path, input.name, input.shape), sizeOf(path, output.name, output.shape)]
  return new ExportedPolicy(basename(path), 'onnxruntime-node', obs_dim, act_dim, async (observations, rows) => {
    const results = await session.run({ [input.name]: new ort.Tensor('float32', observations, [rows, obs_dim]) })
    return results[output.name]!.data as Float32Array
  })
}

/**
 * Opens the `model.json` of a layers model, with the weights beside it.
 *
 * @param runtime default the first that is installed.
 * @throws DrcorlError `Runtime` without TensorFlow.js, `Io` or `Data` (exit status 2) for files that are no such model.
 */
export async function openTfjs(path: string, runtime?: keyof typeof TFJS): Promise<Policy> {
  const artifacts = await readArtifacts(path)
  const [found, tf] = await importTfjs(path, runtime)
  const { backend } = TFJS[found]
  // Both packages share one list of backends: loading tfjs-node changes what tfjs computes with.
  const useBackend = async (): Promise<void> => {
    if (tf.getBackend() !== backend) await tf.setBackend(backend)
  }
  await useBackend()
  const model = await tf.loadLayersModel(tf.io.fromMemory(artifacts)).catch((error: unknown) => {
    throw new DrcorlError('Data', `${path} is no layers model: ${messageOf(error).split('\n')[0]}`, { cause: error })
  })
  const [obs_dim, act_dim] = [
    sizeOf(path, 'its input', model.inputs.length === 1 ? model.inputs[0]?.shape : undefined),
    sizeOf(path, 'its output', model.outputs.length === 1 ? model.outputs[0]?.shape : undefined),
  ]
  const name = join(basename(dirname(path)), basename(path))
  return new ExportedPolicy(name, found, obs_dim, act_dim, async (observations, rows) => {
    await useBackend()
    const input = tf.tensor2d(observations, [rows, obs_dim])
    const output = model.predict(input)
    try {
      return Float32Array.from(await output.data())
    } finally {
      input.dispose()
      output.dispose()
    }
  })
}

async function importTfjs(path: string, runtime?: keyof typeof TFJS): Promise<[keyof typeof TFJS, Tfjs]> {
  const names = runtime === undefined ? (['tfjs-node', 'tfjs'] as const) : [runtime]
  for (const name of names) {
    if (name === 'tfjs-node' && !tfjsNodeRuns()) {
      if (runtime === undefined) continue
      throw new DrcorlError('Runtime', `tfjs-node 4 does not run on Node ${process.versions.node}`, {
        hint: 'use Node 22, or: npm install @tensorflow/tfjs',
      })
    }
    // TensorFlow tells of its instruction sets otherwise; warnings stay.
    process.env['TF_CPP_MIN_LOG_LEVEL'] ??= '1'
    const tf = await importPeer<Tfjs>(TFJS[name].package)
    if (tf !== null) return [name, tf]
  }
  const packages = names.map((name) => TFJS[name].package)
  throw missingPeer(`playing ${path}`, packages)
}

/**
 * False from Node 23 on, which has dropped a function that tfjs-node 4.22, the last release, calls for every tensor.
 */
export const tfjsNodeRuns = (): boolean => 'isNullOrUndefined' in util

interface ModelJson {
  modelTopology?: unknown
  weightsManifest?: { paths: string[]; weights: object[] }[]
}

/** What `tf.io.fromMemory` takes. */
async function readArtifacts(path: string): Promise<object> {
  const { modelTopology, weightsManifest } = ((await readJson(path)) ?? {}) as ModelJson
  if (typeof modelTopology !== 'object' || !Array.isArray(weightsManifest)) {
    throw new DrcorlError(
      'Data',
      `${path} is no layers model of TensorFlow.js: modelTopology or weightsManifest is missing`,
    )
  }
  const parts = weightsManifest.flatMap(({ paths }) => paths).map((name) => join(dirname(path), name))
  const weights = await Promise.all(
    parts.map((part) =>
      readFile(part).catch((error: unknown) => {
        const text = `${path} names ${part}, which cannot be read: ${describeFsError(error)}`
        throw new DrcorlError('Io', text, { cause: error, exitStatus: 2 })
      }),
    ),
  )
  const { buffer } = Uint8Array.from(Buffer.concat(weights))
  return { modelTopology, weightSpecs: weightsManifest.flatMap((group) => group.weights), weightData: buffer }
}

/** S or A of a tensor [batch, size]. */
function sizeOf(path: string, what: string, shape: readonly (number | string | null)[] | undefined): number {
  const size = shape?.[1]
  if (shape?.length === 2 && typeof size === 'number' && size > 0) return size
  throw new DrcorlError(
    'Data',
    `${path} is no policy: ${what} is [${shape?.join(', ') ?? 'unknown'}], not [batch, size]`,
  )
}
