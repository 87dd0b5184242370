/** Stable codes of every error drcorl throws. */
export type ErrorCode =
  | 'Config'
  | 'Shape'
  | 'Data'
  | 'Torch'
  | 'Busy'
  | 'Cancelled'
  | 'Diverged'
  | 'Io'
  | 'Panic'
  | 'Addon'
  | 'Environment'
  | 'Runtime'
  | 'Usage'
  | 'NotCertified'
  | 'Interrupted'
  | 'Internal'

const EXIT_STATUS: Partial<Record<ErrorCode, number>> = {
  Config: 2,
  Shape: 2,
  Data: 2,
  Usage: 2,
  Runtime: 2,
  NotCertified: 3,
  Cancelled: 130,
  Interrupted: 130,
}

/** Codes that the addons give; a test compares them with the sources of the crates. */
export const NATIVE_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'Config',
  'Shape',
  'Data',
  'Torch',
  'Busy',
  'Cancelled',
  'Diverged',
  'Io',
  'Internal',
  'Panic',
])

export interface DrcorlErrorOptions {
  cause?: unknown
  /** Overrides the status that belongs to the code, e.g. 2 for an `Io` error about an input file. */
  exitStatus?: number
  /** One line that says what to do; printed under the message by the CLI. */
  hint?: string
}

/**
 * The only error type that leaves drcorl's public functions.
 *
 * `code` is stable and meant for programs; `message` names the file, field or value and the remedy;
 * `exitStatus` is what the CLI exits with (2 bad input, 3 not certified, 130 interrupted, 1 the rest).
 */
export class DrcorlError extends Error {
  override readonly name = 'DrcorlError'
  readonly code: ErrorCode
  readonly exitStatus: number
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: DrcorlErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.exitStatus = options.exitStatus ?? EXIT_STATUS[code] ?? 1
    this.hint = options.hint
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** `error.code` where it is a string (Node and napi both set it), else undefined. */
export function codeOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}

/**
 * Turns anything thrown into a DrcorlError, keeping the native code and the original as `cause`.
 *
 * @param overrides wins over what the code implies, e.g. `{ exitStatus: 2 }` while an input file is read.
 */
export function toDrcorlError(error: unknown, overrides: DrcorlErrorOptions = {}): DrcorlError {
  if (error instanceof DrcorlError) return error
  const code = codeOf(error)
  if (code !== undefined && (NATIVE_CODES as ReadonlySet<string>).has(code)) {
    const message = messageOf(error).replace(new RegExp(`^${code}: `), '')
    return new DrcorlError(code as ErrorCode, message, { cause: error, ...overrides })
  }
  return new DrcorlError('Internal', messageOf(error), { cause: error, ...overrides })
}

/** What a Node file-system error means in words; falls back to its own message. */
export function describeFsError(error: unknown): string {
  const words: Record<string, string> = {
    ENOENT: 'no such file or folder',
    EACCES: 'permission denied',
    EISDIR: 'it is a folder',
    ENOTDIR: 'a part of the path is not a folder',
    ENOSPC: 'no space left on the device',
    EROFS: 'the file system is read-only',
    EMFILE: 'too many open files',
  }
  return words[codeOf(error) ?? ''] ?? messageOf(error)
}
