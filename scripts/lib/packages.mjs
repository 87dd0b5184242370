// The manifests of the published packages: the root, and three for each platform (the two addons and libtorch).
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ADDONS, addonFile } from './addons.mjs'
import { LIBTORCH_VERSION, PLATFORMS } from './platforms.mjs'
import { ROOT } from './run.mjs'

/**
 * Version of the packages with libtorch: torch's own, so that a release of ours does not make anyone fetch it again.
 */
export const LIBTORCH_PACKAGE_VERSION = LIBTORCH_VERSION

/** The repository's own manifest. */
export const SOURCE = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))

/** Kinds of platform packages. `files` are globs inside the package, `version` its version. */
export const KINDS = {
  runtime: {
    version: SOURCE.version,
    license: SOURCE.license,
    describe: (triple) => `drcorl's addon without libtorch for ${triple}: policies and dataset files`,
  },
  core: {
    version: SOURCE.version,
    license: SOURCE.license,
    describe: (triple) => `drcorl's learning core for ${triple}; needs libtorch`,
  },
  'libtorch-cpu': {
    version: LIBTORCH_PACKAGE_VERSION,
    // PyTorch's, NVIDIA's, GCC's and Intel's terms stand side by side; no SPDX expression says that.
    license: 'SEE LICENSE IN licenses/NOTICE',
    describe: (triple) => `The CPU shared libraries of PyTorch ${LIBTORCH_VERSION} for ${triple}, as drcorl uses them`,
  },
}

export const packageName = (kind, triple) => `@drcorl/${kind}-${triple}`
/** The file `npm pack` makes. */
export const tarballName = ({ name, version }) => `${name.replace('@', '').replace('/', '-')}-${version}.tgz`

const shared = () => {
  const { author, repository, homepage, bugs, engines } = SOURCE
  return { author, homepage, repository, bugs, engines, publishConfig: { access: 'public', provenance: true } }
}

/** @param kind a key of KINDS */
export function platformManifest(kind, triple) {
  const { os, cpu, libc } = PLATFORMS[triple]
  const { version, license, describe } = KINDS[kind]
  const addon = ADDONS.find((one) => one.kind === kind)
  const main = addon && addonFile(addon, triple)
  return {
    name: packageName(kind, triple),
    version,
    description: describe(triple),
    license,
    ...shared(),
    os: [os],
    cpu: [cpu],
    ...(libc === undefined ? {} : { libc: [libc] }),
    // pnpm and yarn may keep packages zipped or linked; a shared library must lie in a folder of its own.
    preferUnplugged: true,
    ...(main === undefined ? { files: ['lib', 'licenses'] } : { main, files: [main] }),
  }
}

/** Every platform package, whether or not it is built here. */
export const platformManifests = () =>
  Object.keys(PLATFORMS).flatMap((triple) => Object.keys(KINDS).map((kind) => platformManifest(kind, triple)))

/**
 * The root package. It differs from the repository's manifest: platform packages are named, which in the repository
 * would make every `npm install` ask for packages that this very commit has yet to publish;
 * and nothing of the development is in it.
 */
export function rootManifest() {
  const { devDependencies: _, scripts: __, ...manifest } = SOURCE
  const optionalDependencies = Object.fromEntries(platformManifests().map(({ name, version }) => [name, version]))
  return {
    ...manifest,
    publishConfig: shared().publishConfig,
    optionalDependencies: { ...manifest.optionalDependencies, ...optionalDependencies },
  }
}
