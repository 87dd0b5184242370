import { type DrcorlErrorOptions, toDrcorlError } from '../base/errors.js'

/** Runs a native call; what it throws comes out as a DrcorlError with the native code. */
export async function guard<T>(call: () => T | Promise<T>, overrides: DrcorlErrorOptions = {}): Promise<T> {
  try {
    return await call()
  } catch (error) {
    throw toDrcorlError(error, overrides)
  }
}
