/** Work on files that is watched and may be cancelled; none of it needs libtorch. */
import type { NativeDataset, NativeOperation } from '../../index.d.ts'
import { codeOf, toDrcorlError } from '../base/errors.js'
import { loadRuntime } from './addons.js'

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
export function filterFile(
  input: string,
  output: string,
  options: object,
  watch: OperationOptions & { maxMemory?: number | undefined },
): Promise<unknown> {
  return operate(watch, async (native) =>
    JSON.parse(await native.filter(input, output, JSON.stringify(options), watch.maxMemory)),
  )
}

/** A dataset file in two by episodes, in Rust; options and result as `SplitOptions` and `SplitReport` of the crate. */
export function splitFile(
  input: string,
  parts: { train: string; held_out: string },
  options: object,
  attributes: Record<string, string>,
  watch: OperationOptions & { maxMemory?: number | undefined },
): Promise<unknown> {
  const { train, held_out } = parts
  return operate(watch, async (native) =>
    JSON.parse(await native.split(input, train, held_out, JSON.stringify(options), attributes, watch.maxMemory)),
  )
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

/** The shared libraries of a libtorch archive into a folder; units are bytes of the archive. */
export function unpackFile(archive: string, folder: string, watch: OperationOptions): Promise<void> {
  return operate(watch, (native) => native.unpack(archive, folder))
}

/** The shared libraries of one wheel into a folder, those of `libraries` or all; units are bytes of the wheel. */
export function unpackWheelFile(
  wheel: string,
  folder: string,
  libraries: string[] | undefined,
  watch: OperationOptions,
): Promise<void> {
  return operate(watch, (native) => native.unpackWheel(wheel, folder, libraries))
}

async function operate<T>(watch: OperationOptions, call: (native: NativeOperation) => Promise<T>): Promise<T> {
  const { NativeOperation: Native } = loadRuntime()
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
