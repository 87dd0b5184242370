/** Which policy an exported model came from, and whether it is that policy still. */
import { dirname, join, resolve } from 'node:path'
import { DrcorlError } from '../base/errors.js'
import { exists, readBytes, sha256File } from '../base/files.js'
import { stringsOf } from '../base/protobuf.js'
import { EXPORTED_FROM, EXPORTED_SHA256, EXPORT_FORMATS, type ExportFormat, contents, readSource } from './export.js'
import { TFJS_FILES } from './names.js'

/** What an exported model says of its origin, after it was checked. */
export interface ExportOrigin {
  format: ExportFormat
  /** The policy file. */
  policy: string
  sha256: string
  /** Settings that were fixed in it. */
  settings: Record<string, number>
}

/** ModelProto.metadata_props of onnx.proto3. */
const METADATA_PROPS = 14

/**
 * The policy that a `policy.onnx` or a `model.json` was exported from. The model is held to be that policy where
 * exporting it again gives the same bytes.
 *
 * @throws DrcorlError `Data` or `Io` (exit status 2) where it does not say, where that file is gone or another by now,
 *   or where the model differs from its export.
 */
export async function originOf(path: string): Promise<ExportOrigin> {
  const format: ExportFormat = path.endsWith('.onnx') ? 'onnx' : 'tfjs'
  const bytes = await readBytes(path)
  const metadata = format === 'onnx' ? onnxMetadata(bytes, path) : tfjsMetadata(bytes, path)
  const [from, sha256] = [metadata[EXPORTED_FROM], metadata[EXPORTED_SHA256]]
  const hint = 'name the policy file itself, or export it again'
  const refuse = (code: 'Data' | 'Io', text: string): DrcorlError =>
    new DrcorlError(code, `${path} ${text}`, { exitStatus: 2, hint })
  if (from === undefined || sha256 === undefined) {
    throw refuse('Data', 'does not say which policy it was exported from')
  }
  const policy = resolve(dirname(path), from)
  if (!(await exists(policy))) throw refuse('Io', `was exported from ${policy}, which is not there`)
  const found = await sha256File(policy)
  if (found !== sha256) throw refuse('Data', `was exported from ${policy} of sha256 ${sha256}, which is now ${found}`)
  const settings = settingsOf(metadata)
  const files = contents(await readSource({ policy, format, settings }), format, from)
  const folder = dirname(path)
  const places = format === 'onnx' ? { [EXPORT_FORMATS.onnx]: path } : placesIn(folder)
  for (const [name, place] of Object.entries(places)) {
    if (Buffer.compare(await readBytes(place), files[name]!) === 0) continue
    throw refuse('Data', `is not what this version exports from ${policy}: ${place} has other bytes`)
  }
  return { format, policy, sha256, settings }
}

const placesIn = (folder: string): Record<string, string> =>
  Object.fromEntries(Object.values(TFJS_FILES).map((name) => [name, join(folder, name)]))

function settingsOf(metadata: Record<string, string>): Record<string, number> {
  const own = Object.entries(metadata).filter(([key]) => key.startsWith('setting.'))
  return Object.fromEntries(own.map(([key, value]) => [key.slice('setting.'.length), Number(value)]))
}

function onnxMetadata(bytes: Uint8Array, path: string): Record<string, string> {
  try {
    const pairs = stringsOf(bytes, METADATA_PROPS).map((entry) => [1, 2].map((field) => text(entry, field)))
    return Object.fromEntries(pairs) as Record<string, string>
  } catch (error) {
    throw new DrcorlError('Data', `${path} is no ONNX model`, { cause: error })
  }
}

const text = (entry: Uint8Array, field: number): string => new TextDecoder().decode(stringsOf(entry, field)[0])

function tfjsMetadata(bytes: Uint8Array, path: string): Record<string, string> {
  try {
    const { userDefinedMetadata } = JSON.parse(new TextDecoder().decode(bytes)) as { userDefinedMetadata?: object }
    return { ...userDefinedMetadata } as Record<string, string>
  } catch (error) {
    throw new DrcorlError('Data', `${path} is no layers model of TensorFlow.js`, { cause: error })
  }
}
