/**
 * The door to the native addon, and the only importer of ../index.js. The addon is loaded at first use, so that help
 * texts, usage errors and reports work without it; every error that leaves here is a DrcorlError.
 */
import type { NativeColumns, NativeDataset, NativeOperation, NativePolicy, NativeTrainer } from '../index.js'
import { DrcorlError, type DrcorlErrorOptions, codeOf, messageOf, toDrcorlError } from './errors.js'

export type { NativeColumns, NativeDataset, NativePolicy }

type Addon = typeof import('../index.js')

let loading: Promise<Addon> | undefined

/**
 * Loads the addon once.
 *
 * @throws DrcorlError `Addon` (exit status 1) saying whether the addon or libtorch is missing, and the command that cures it.
 */
export function loadAddon(): Promise<Addon> {
  loading ??= import('../index.js').catch((error: unknown) => {
    loading = undefined
    throw addonError(error)
  })
  return loading
}

/** Tells a missing libtorch from a missing addon by the messages along the chain of causes. */
export function addonError(error: unknown): DrcorlError {
  const messages: string[] = []
  for (let link: unknown = error; link !== undefined && link !== null; link = (link as { cause?: unknown }).cause) {
    messages.push(messageOf(link))
    if (messages.length > 20) break
  }
  const all = messages.join('\n')
  const library = /lib(?:torch|c10|gomp|cudart|cupti)[\w.-]*/.exec(all)?.[0]
  const loader = library === undefined ? undefined : messages.find((message) => message.includes(library))
  const message =
    library !== undefined
      ? `the native addon cannot load libtorch: ${loader?.split('\n')[0] ?? library}`
      : `the native addon is not built or does not fit this machine: ${messages.at(-1)?.split('\n')[0] ?? 'unknown'}`
  return new DrcorlError('Addon', message, { cause: error, hint: 'run: npm run setup' })
}

/** Runs a native call; what it throws comes out as a DrcorlError with the native code. */
async function guard<T>(call: () => T | Promise<T>, overrides: DrcorlErrorOptions = {}): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw toDrcorlError(error, overrides)
  }
}

/**
 * Reads and checks a DSRL HDF5 file in Rust.
 *
 * @param episodeLength steps; an episode longer than this is refused.
 * @throws DrcorlError `Data` or `Io`, both exit status 2, naming file, key and value.
 */
export async function openDataset(path: string, episodeLength?: number): Promise<NativeDataset> {
  const { NativeDataset: Native } = await loadAddon()
  return guard(() => Native.open(path, episodeLength), { exitStatus: 2 })
}

/** Checks columns made in JavaScript and copies them into native memory. */
export async function datasetFromColumns(columns: NativeColumns): Promise<NativeDataset> {
  const { NativeDataset: Native } = await loadAddon()
  return guard(() => Native.fromColumns(columns), { exitStatus: 2 })
}

/** Progress of a native operation: units done, and units in all (0 while unknown). */
export type OperationProgress = (done: number, total: number) => void

export interface OperationOptions {
  /** Aborting ends the operation with code `Cancelled`; no file is left. */
  signal?: AbortSignal | undefined
  onProgress?: OperationProgress | undefined
}

/** Between two looks at a native operation. */
const POLL_MS = 200

/** DSRL's pre-processing in Rust; `options` and result as `FilterOptions` and `FilterReport` of the crate. */
export function filterFile(input: string, output: string, options: object, watch: OperationOptions): Promise<unknown> {
  return operate(watch, async (native) => JSON.parse(await native.filter(input, output, JSON.stringify(options))))
}

/** Conversion in Rust; `options` and result as `ConvertOptions` and `ConvertReport` of the crate. */
export function convertFile(input: string, output: string, options: object, watch: OperationOptions): Promise<unknown> {
  return operate(watch, async (native) => JSON.parse(await native.convert(input, output, JSON.stringify(options))))
}

/** Writes a dataset as a DSRL file, with string attributes. */
export function writeDatasetFile(
  dataset: NativeDataset,
  output: string,
  attributes: Record<string, string>,
  watch: OperationOptions = {},
): Promise<void> {
  return operate(watch, (native) => native.write(dataset, output, attributes))
}

async function operate<T>(watch: OperationOptions, call: (native: NativeOperation) => Promise<T>): Promise<T> {
  const { NativeOperation: Native } = await loadAddon()
  const native = new Native()
  const cancel = (): void => native.cancel()
  const report = (): void => {
    const [done = 0, total = 0] = native.progress()
    watch.onProgress?.(done, total)
  }
  const timer = setInterval(report, POLL_MS)
  watch.signal?.addEventListener('abort', cancel, { once: true })
  if (watch.signal?.aborted) cancel()
  try {
    return await call(native)
  } catch (error) {
    throw toDrcorlError(error, codeOf(error) === 'Cancelled' ? {} : { exitStatus: 2 })
  } finally {
    clearInterval(timer)
    watch.signal?.removeEventListener('abort', cancel)
  }
}

/** Reads `policy.safetensors` for inference without torch, and sets what it is conditioned on. */
export async function loadNativePolicy(path: string, settings: Record<string, number> = {}): Promise<NativePolicy> {
  const { NativePolicy: Native } = await loadAddon()
  return guard(
    () => {
      const policy = Native.load(path)
      for (const [name, value] of Object.entries(settings)) policy.set(name, value)
      return policy
    },
    { exitStatus: 2 },
  )
}

/** libtorch version, devices, threads and CPU features, as the core sees them. */
export async function nativeEnvironment(): Promise<Record<string, unknown>> {
  const addon = await loadAddon()
  return guard(() => JSON.parse(addon.environment()) as Record<string, unknown>)
}

/** Where a trainer stands, and the mean metrics of the steps just run. Steps are gradient steps. */
export interface TrainerStatus {
  phase: string
  phase_index: number
  phase_step: number
  phase_steps: number
  step: number
  steps: number
  phases: { name: string; steps: number }[]
  done: boolean
  cancelled: boolean
  /** The environment is awaited: play the visitor, then hand in the visit. Null in mode offline. */
  visit: { number: number; episodes: number; transitions: boolean } | null
  /** Of all visits so far. */
  environment_steps: number
  /** A value that is not finite arrives as null. */
  metrics: Record<string, number | null>
}

/** One episode of a visit, undiscounted sums. */
export interface PlayedEpisode {
  return: number
  cost: number
  length: number
}

/** Names the algorithm and its two groups of parameters, all resolved. */
export interface TrainerConfig {
  algorithm: string
  run: Record<string, unknown>
  config: Record<string, unknown>
}

/** A native trainer with JSON parsed and errors typed. One call at a time; `cancel` alone may come at any moment. */
export class Trainer {
  private constructor(private readonly native: NativeTrainer) {}

  static async create(dataset: NativeDataset, { algorithm, run, config }: TrainerConfig): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadAddon()
    const json = JSON.stringify({ algorithm, run, config })
    return new Trainer(await guard(() => Native.create(dataset, json)))
  }

  /** Goes on from a checkpoint: parameters, optimiser moments, random streams and step are those of the saved trainer. */
  static async resume(dataset: NativeDataset, checkpoint: string): Promise<Trainer> {
    const { NativeTrainer: Native } = await loadAddon()
    return new Trainer(await guard(() => Native.resume(dataset, checkpoint), { exitStatus: 2 }))
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

  /** Writes a checkpoint atomically. */
  save(path: string): Promise<void> {
    return guard(() => this.native.save(path))
  }

  /** @returns names of the policy files written, the one to use first. */
  writePolicies(folder: string): Promise<string[]> {
    return guard(() => this.native.writePolicies(folder))
  }

  /** Writes the policy that meets the environment at the visit that is due. */
  writeVisitor(path: string): Promise<void> {
    return guard(() => this.native.writeVisitor(path))
  }

  /** Hands in the visit that is due. */
  visited(episodes: readonly PlayedEpisode[], collected?: NativeDataset): Promise<void> {
    return guard(() => this.native.visited(JSON.stringify(episodes), collected))
  }

  certificate(): Promise<Certificate | null> {
    return guard(() => {
      const text = this.native.certificate()
      return text === null ? null : (JSON.parse(text) as Certificate)
    })
  }

  dispose(): void {
    this.native.dispose()
  }
}

/** Verdict on the policy from offline data alone; which further numbers it holds depends on the algorithm. */
export interface Certificate {
  verdict: 'certified' | 'not certified'
  /** Why, in one sentence each. */
  reasons?: string[]
  [key: string]: unknown
}
