/** The device a run computes on: what was asked for, what is there, and why. */
import { DrcorlError } from '../base/errors.js'
import { coreEnvironment } from './environment.js'
import { type LibtorchInUse, libtorchInUse } from './libtorch.js'

export interface ChosenDevice {
  /** `cpu` or `cuda:N`. */
  device: string
  /** One phrase. */
  why: string
}

/** What there is of CUDA. */
export interface Cuda {
  /** `cuda:N` of each device. */
  devices: string[]
  /** One phrase: how many, or why none. */
  why: string
  /** What to run where there is none; null where there is. */
  remedy: string | null
}

/** What a libtorch and its devices say about CUDA. */
export function cudaOf(libtorch: LibtorchInUse | undefined, devices: readonly string[]): Cuda {
  const found = devices.filter((name) => name.startsWith('cuda'))
  if (found.length > 0) return { devices: found, why: `libtorch sees ${found.join(', ')}`, remedy: null }
  const none = (why: string, remedy: string): Cuda => ({ devices: [], why, remedy })
  const name = libtorch === undefined ? 'this libtorch' : `${libtorch.label} (libtorch ${libtorch.version})`
  if (libtorch?.cudaProblem) {
    return none(
      `the CUDA libraries of ${name} do not load: ${libtorch.cudaProblem}`,
      'check the driver with nvidia-smi',
    )
  }
  if (libtorch?.cuda !== true) {
    return none(`${name} is a CPU build`, 'run: npx drcorl torch install --cuda cu130; or DRCORL_LIBTORCH=python')
  }
  return none(`${name} has CUDA and finds no device`, 'check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES')
}

/**
 * Resolves `auto`, `cpu`, `cuda` or `cuda:N`. Only `auto` may end on another device than the best.
 *
 * @throws DrcorlError `Config` (exit status 2) where CUDA is asked for and is not there, with the reason.
 */
export async function chooseDevice(asked: string): Promise<ChosenDevice> {
  const { devices } = await coreEnvironment()
  return deviceFor(asked, cudaOf(libtorchInUse(), devices))
}

/** `chooseDevice` for a machine that is known. */
export function deviceFor(asked: string, cuda: Cuda): ChosenDevice {
  const first = cuda.devices[0]
  if (asked === 'auto') return { device: first ?? 'cpu', why: `auto: ${cuda.why}` }
  if (asked === 'cpu') return { device: 'cpu', why: 'asked for' }
  const device = asked === 'cuda' ? 'cuda:0' : asked
  if (cuda.devices.includes(device)) return { device, why: 'asked for' }
  throw new DrcorlError('Config', `device is ${asked}, and it is not there: ${cuda.why}`, {
    hint: cuda.remedy ?? `take one of ${cuda.devices.join(', ')}, or --device auto`,
  })
}
