/** Which machines have native packages, and what their files are called. */
import { DrcorlError } from '../base/errors.js'

/** What tells one native package from another. */
export interface Host {
  platform: NodeJS.Platform
  arch: string
  /** `musl` on Linux without glibc. */
  libc: 'glibc' | 'musl' | undefined
}

/**
 * As napi-rs writes them; the packages are `@drcorl/runtime-TRIPLE`, `@drcorl/core-TRIPLE`,
 * `@drcorl/libtorch-cpu-TRIPLE`.
 */
const TRIPLES: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64-gnu',
  'linux-arm64': 'linux-arm64-gnu',
  'darwin-arm64': 'darwin-arm64',
  'win32-x64': 'win32-x64-msvc',
}

/** The machine this process runs on. */
export function thisHost(): Host {
  const { platform, arch } = process
  return { platform, arch, libc: platform === 'linux' ? (glibcVersion() === undefined ? 'musl' : 'glibc') : undefined }
}

/** Of the C library in use; undefined where it is not glibc. */
export function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } }
  return header.glibcVersionRuntime
}

/**
 * The triple of a platform, without asking which C library it has: that takes milliseconds, and matters only where
 * loading has failed.
 */
export function tripleOf(platform: NodeJS.Platform, arch: string): string | undefined {
  return TRIPLES[`${platform}-${arch}`]
}

/** Why a machine has no native packages, in one sentence with what to do; undefined where it has. */
export function refusal({ platform, arch, libc }: Host): DrcorlError | undefined {
  const refuse = (message: string, hint: string): DrcorlError => new DrcorlError('Addon', message, { hint })
  if (libc === 'musl') {
    return refuse(
      'drcorl has no native packages for musl (Alpine Linux): there is no libtorch for it',
      'use an image with glibc, such as Debian or Ubuntu',
    )
  }
  if (platform === 'darwin' && arch === 'x64') {
    return refuse(
      'drcorl has no native packages for Intel Macs: libtorch ended its support of them with version 2.3',
      'use a Mac with Apple silicon (there, a Node for arm64), or Linux',
    )
  }
  if (tripleOf(platform, arch) !== undefined) return undefined
  const known = Object.keys(TRIPLES).join(', ')
  return refuse(`drcorl has no native packages for ${platform}-${arch}; there are: ${known}`, 'use one of these')
}

/** File names of libtorch's libraries in the order in which they are opened. */
export interface LibraryNames {
  /** Without these there is no libtorch. */
  required: readonly string[]
  /** The CUDA part, where there is one. */
  cuda: readonly string[]
}

export function libraryNames(platform: NodeJS.Platform = process.platform): LibraryNames {
  const name = (stem: string): string => {
    if (platform === 'win32') return `${stem}.dll`
    return platform === 'darwin' ? `lib${stem}.dylib` : `lib${stem}.so`
  }
  return { required: ['c10', 'torch_cpu'].map(name), cuda: ['c10_cuda', 'torch_cuda'].map(name) }
}
