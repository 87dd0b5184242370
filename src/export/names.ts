/** What exports are called. */

/** Formats, and what one is called where no name is given: a file, or for tfjs a folder of two. */
export const EXPORT_FORMATS = { safetensors: 'policy.safetensors', onnx: 'policy.onnx', tfjs: 'tfjs' } as const

export type ExportFormat = keyof typeof EXPORT_FORMATS

export const TFJS_FILES = { model: 'model.json', weights: 'weights.bin' } as const

/** Where in a run folder exports go that were given no other place. */
export const EXPORT_FOLDER = 'export'

/** The name of an export of the policy file whose name without ending is `stem`. */
export function exportName(stem: string, format: ExportFormat): string {
  return EXPORT_FORMATS[format].replace('policy', stem)
}
